package sidecar

import (
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/conf"
)

var update = flag.Bool("update", false, "write the golden files")

// small is a configuration without a fault.
const small = `
a1.sources = r1
a1.channels = c1
a1.sinks = k1
a1.sources.r1.type = seq
a1.sources.r1.totalEvents = 10
a1.sources.r1.channels = c1
a1.channels.c1.type = memory
a1.sinks.k1.type = logger
a1.sinks.k1.channel = c1
`

func TestCommandLine(t *testing.T) {
	good := write(t, "good.conf", small)
	bad := write(t, "bad.conf", small+"a1.channels.c1.capacity = 10\na1.sinks.k1.channel = c9\n")
	doubtful := write(t, "doubtful.conf", small+"a1.channels.c1.capcity = 1000\n")
	two := write(t, "two.conf", small+strings.ReplaceAll(small, "a1.", "a2."))
	for _, c := range []struct {
		name string
		args string
		env  map[string]string
		code int
		says string // on either stream
	}{
		{"no command", "", nil, exitUsage, "Commands:"},
		{"unknown command", "agnet", nil, exitUsage, `no command "agnet"`},
		{"help", "--help", nil, exitOK, "healthcheck"},
		{"help, one dash", "-help", nil, exitOK, "healthcheck"},
		{"version", "version", nil, exitOK, "Source code repository"},
		{"version as an option", "--version", nil, exitOK, "Revision: "},
		{"Flume's tools", "tool FCINTEGRITYTOOL", nil, exitUsage, "channel fsck"},

		{"agent without a file", "agent -n a1", nil, exitUsage, "use --conf-file"},
		{"agent with an unknown option", "agent --name a1 --nmae a2", nil, exitUsage, "no option -nmae"},
		{"agent with a word", "agent -n a1 x -f " + good, nil, exitUsage, `"x" is not an option`},
		{"agent, help", "agent -h", nil, exitOK, "MILLRACE_DRAIN_TIMEOUT"},
		{"a bad duration", "agent --drain-timeout 5 -f " + good, nil, exitUsage, "is not a duration"},
		{"a bad log form", "agent --log xml -f " + good, nil, exitUsage, "is not one of text, json"},
		{"a bad log level", "agent --log-level loud -f " + good, nil, exitUsage, "loud"},
		{"strict and lenient", "agent --strict --lenient -f " + good, nil, exitUsage, "exclude each other"},
		{"ZooKeeper", "agent -n a1 -z zk:2181 -p /flume", nil, exitUsage, "-z: configurations are not read from ZooKeeper"},
		{"a URI of another kind", "agent -n a1 --conf-uri ftp://x/", nil, exitUsage, "ftp is not file, http, https or classpath"},
		{"the class path", "agent -n a1 --conf-uri classpath:a.conf", nil, exitUsage, "with --conf DIR it is a file below DIR"},
		{"a provider", "agent -n a1 -prov com.example.P", nil, exitUsage, "Java classes are not loaded"},
		{"an interval", "agent -n a1 -i soon -f " + good, nil, exitUsage, "\"soon\""},
		{"a good interval", "agent --validate-only -n a1 -i 60 -f " + good, nil, exitOK, ""},
		{"a backup", "agent -n a1 -b /tmp -f " + good, nil, exitUsage, "-b: "},
		{"ganglia", "agent -n a1 -Dflume.monitoring.type=ganglia -f " + good, nil, exitUsage, "ganglia is not supported"},

		{"a good file", "agent --validate-only -n a1 -f " + good, nil, exitOK, ""},
		{"as everybody starts Flume", "agent -c conf -f " + good + " -n a1 -Dflume.root.logger=INFO,console -Xmx512m --no-reload-conf --validate-only", nil, exitOK, ""},
		{"two dashes, an equals sign", "agent --conf=conf --conf-file=" + good + " --name=a1 --validate-only", nil, exitOK, ""},
		{"the only agent", "agent --validate-only -f " + good, nil, exitOK, ""},
		{"no name, two agents", "agent --validate-only -f " + two, nil, exitConfig, "use --name with one of a1, a2"},
		{"a wrong name", "agent --validate-only -n a9 -f " + good, nil, exitConfig, "has a1"},
		{"a file that is not there", "agent -n a1 -f /nowhere/x.conf", nil, exitConfig, "/nowhere/x.conf: error: "},
		{"a faulty file", "agent -n a1 -f " + bad, nil, exitConfig, bad + ":12: error: a1.sinks.k1.channel: there is no channel"},
		{"a faulty file, as JSON", "agent --log json -n a1 -f " + bad, nil, exitConfig, `"at":"` + bad + `:12","key":"a1.sinks.k1.channel"`},
		{"warnings", "agent --validate-only -n a1 -f " + doubtful, nil, exitOK, ":11: warning: a1.channels.c1.capcity: unknown key"},
		{"warnings, strictly", "agent --strict --validate-only -n a1 -f " + doubtful, nil, exitConfig, ":11: error: a1.channels.c1.capcity: unknown key"},

		{"all from the environment", "agent --validate-only", map[string]string{"MILLRACE_CONF_FILE": good, "MILLRACE_NAME": "a1"}, exitOK, ""},
		{"several files from the environment", "agent --validate-only", map[string]string{"MILLRACE_CONF_FILE": good + ":" + doubtful}, exitOK, "doubtful.conf:11"},
		{"the environment before an image's line", "agent --validate-only -n a9 -f /nowhere", map[string]string{"MILLRACE_CONF_FILE": good, "MILLRACE_NAME": "a1"}, exitOK, ""},
		{"several files before several", "agent --validate-only -f /nowhere -f /there", map[string]string{"MILLRACE_CONF_FILE": good + ":" + doubtful}, exitOK, "doubtful.conf:11"},
		{"a line that somebody typed before the environment", "validate -f " + good, map[string]string{"MILLRACE_CONF_FILE": "/nowhere"}, exitOK, "valid"},
		{"a switch from the environment", "agent -f " + good, map[string]string{"MILLRACE_VALIDATE_ONLY": "true"}, exitOK, ""},
		{"a bad value from the environment", "agent -f " + good, map[string]string{"MILLRACE_DRAIN_TIMEOUT": "soon"}, exitUsage, "MILLRACE_DRAIN_TIMEOUT"},
		{"other people's variables", "agent --validate-only -f " + good, map[string]string{"MILLRACE_SERVICE_HOST": "10.0.0.1", "MILLRACE_PORT": "tcp://10.0.0.1:1"}, exitOK, ""},

		{"validate", "validate -f " + good, nil, exitOK, "valid; 0 errors, 0 warnings"},
		{"validate, files as words", "validate " + good, nil, exitOK, "agent a1: 1 source, 1 channel, 1 sink"},
		{"validate nothing", "validate", nil, exitUsage, "no configuration was named"},
		{"validate all agents", "validate -f " + two, nil, exitOK, "agent a2: 1 source"},
		{"validate one of them", "validate -n a9 -f " + two, nil, exitConfig, "but has a1, a2"},
		{"validate an empty file", "validate -f " + write(t, "empty.conf", ""), nil, exitConfig, "error"},

		{"help on a type", "help source seq", nil, exitOK, "totalEvents"},
		{"help on a type, its kind not said", "help memory", nil, exitOK, "channel memory"},
		{"help on a class", "help sink org.apache.flume.sink.LoggerSink", nil, exitOK, "sink logger"},
		{"help on a command", "help agent", nil, exitOK, "--drain-timeout"},
		{"help on what is absent", "help sink hbase", nil, exitFailed, "Kafka"},
		{"help on nothing known", "help source sqe", nil, exitUsage, "no type"},

		{"tail", "tail -n 1 " + good, nil, exitOK, "a1.sinks.k1.channel = c1\n"},
		{"healthcheck without an agent", "healthcheck --admin 127.0.0.1:1", nil, exitFailed, "healthcheck: "},
		{"healthcheck, admin off", "healthcheck", map[string]string{"MILLRACE_ADMIN": "off"}, exitFailed, "no admin server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var code int
			var out, err string
			if c.args == "" {
				var b strings.Builder
				code, err = Run(Program{Args: []string{"millrace"}, Env: lookup(nil), Stdout: &b, Stderr: &b}), b.String()
			} else {
				code, out, err = call(t, c.env, strings.Fields(c.args)...)
			}
			if code != c.code || !strings.Contains(out+err, c.says) {
				t.Errorf("exit code %d, want %d; says\n%s%s\nwant %q", code, c.code, out, err, c.says)
			}
		})
	}
}

// Under Flume's name the program does what Flume does with a faulty component.
func TestFlumeName(t *testing.T) {
	bad := write(t, "bad.conf", small+"a1.sinks = k1 k2\na1.sinks.k2.type = logger\na1.sinks.k2.channel = c9\n")
	code, _, said := call(t, nil, "/usr/bin/flume-ng", "agent", "-n", "a1", "-f", bad, "--validate-only")
	if code != exitOK || !strings.Contains(said, "warning: a1.sinks.k2.channel") {
		t.Errorf("%d %s", code, said)
	}
	if code, _, said := call(t, nil, "/usr/bin/flume-ng", "agent", "-n", "a1", "-f", bad, "--validate-only", "--strict"); code != exitConfig {
		t.Errorf("strictly: %d %s", code, said)
	}
	if code, _, said := call(t, nil, "/usr/bin/flume-ng", "version"); code != exitOK || strings.Count(said, "\n") > 5 {
		t.Errorf("version: %d %s", code, said)
	}
}

// What validate prints is kept in golden files: people and editors read it.
func TestValidateGolden(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		golden := filepath.Join("testdata", "validate."+format)
		code, out, said := call(t, nil, "validate", "-f", "testdata/faulty.conf", "--format", format)
		if code != exitConfig || said != "" {
			t.Fatalf("%d %s", code, said)
		}
		if *update {
			if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out != string(want) {
			t.Errorf("%s, rewritten with -update:\n got %s\nwant %s", golden, out, want)
		}
		if format == "json" {
			var v struct {
				Valid            bool
				Errors, Warnings int
				Faults           []struct{ Severity, File string }
			}
			if err := json.Unmarshal([]byte(out), &v); err != nil || v.Valid || len(v.Faults) != v.Errors+v.Warnings {
				t.Errorf("%v %+v", err, v)
			}
		}
	}
}

func TestOverriddenOptions(t *testing.T) {
	env := map[string]string{"MILLRACE_NAME": "a1", "MILLRACE_ADMIN": "off", "MILLRACE_CONF_FILE": "a.conf:b.conf"}
	p := Program{Env: lookup(env), Stdout: io.Discard, Stderr: io.Discard}
	o, _, ok := p.parseAgent(strings.Fields("--name a9 --admin off -f c.conf"))
	if !ok || !slices.Equal(o.overridden, []string{"conf-file", "name"}) || !slices.Equal(o.files, []string{"a.conf", "b.conf"}) {
		t.Fatalf("%v %+v", ok, o)
	}
	var said strings.Builder
	o.sayNotices(newLog(&said, "text", slog.LevelInfo), new(conf.Agent))
	if !strings.Contains(said.String(), "option=--name variable=MILLRACE_NAME") {
		t.Error(said.String())
	}
}
