//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestScenariosAreValid: every configuration here passes the strictest check
// with its defaults alone.
func TestScenariosAreValid(t *testing.T) {
	files, err := filepath.Glob("scenarios/*.conf")
	must(t, err)
	for _, f := range files {
		if out, _, code := millrace(t, nil, "validate", "--strict", "-f", f); code != 0 {
			t.Errorf("%s: exit code %d\n%s", f, code, out)
		}
	}
	t.Logf("%d configurations", len(files))
}

const broken = `a1.sources = web app
a1.channels = c1
a1.sinks = k1
a1.sources.web.type = http
a1.sources.web.port = eighty
a1.sources.web.channels = c1
a1.sources.app.type = taildri
a1.sources.app.channels = c1
a1.channels.c1.type = memory
a1.channels.c1.capacity = 10
a1.channels.c1.transactionCapacity = 100
a1.sinks.k1.type = file_roll
a1.sinks.k1.channel = c2
`

// TestBrokenConfiguration: nothing starts, all faults are told at once, each
// with file and line, and the exit code says that it is the configuration.
func TestBrokenConfiguration(t *testing.T) {
	file := filepath.Join(workDir(t), "broken.conf")
	write(t, file, broken)
	want := []string{":5: error: a1.sources.web.port", ":7: error: a1.sources.app.type", ":11: error: a1.channels.c1.transactionCapacity", ":13: error: a1.sinks.k1.channel", "error: a1.sinks.k1.sink.directory"}
	check := func(how, text string, code int) {
		t.Helper()
		if code != 2 {
			t.Errorf("%s: exit code %d", how, code)
		}
		for _, w := range want {
			if !strings.Contains(text, file+w) && !strings.Contains(text, w) {
				t.Errorf("%s: no %s in\n%s", how, w, text)
			}
		}
		if !strings.Contains(text, "taildir") {
			t.Errorf("%s: does not ask whether taildir was meant:\n%s", how, text)
		}
	}
	_, text, code := millrace(t, nil, "agent", "-n", "a1", "-f", file, "--admin", "off")
	check("agent", text, code)
	text, _, code = millrace(t, nil, "validate", "-f", file)
	check("validate", text, code)
}

// verdict is what Flume's configuration classes made of a text.
type verdict struct {
	Agent string
	Load  struct {
		Error          string
		Sources, Sinks map[string]json.RawMessage
		Groups         map[string]struct{ Sinks []string }
	}
}

// loses tells whether Flume starts nothing, or not all sources, sinks and groups that the text declares.
func (v verdict) loses(text string) bool {
	runs := make(map[string]bool)
	for name := range v.Load.Sources {
		runs["sources "+name] = true
	}
	for name := range v.Load.Sinks {
		runs["sinks "+name] = true
	}
	for name, g := range v.Load.Groups {
		runs["sinkgroups "+name] = true
		for _, name := range g.Sinks {
			runs["sinks "+name] = true
		}
	}
	for _, kind := range []string{"sources", "sinks", "sinkgroups"} {
		list := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(v.Agent) + `\.` + kind + `\s*[=: \t][ \t]*([^#\r\n]*)`)
		all := list.FindAllStringSubmatch(text, -1)
		if len(all) == 0 {
			continue
		}
		for name := range strings.FieldsSeq(strings.TrimSuffix(all[len(all)-1][1], `\`)) { // the last one wins
			if !runs[kind+" "+name] {
				return true
			}
		}
	}
	return v.Load.Error != "" || len(runs) == 0
}

// TestCorpus runs the shipped program, with its real catalogue, on the
// configurations on which Flume has given its verdict. core/conf compares them
// part by part, with a catalogue of its own; here it is the exit code, the
// JSON, and the places: where Flume drops something or dies we say error, and
// where we refuse what Flume takes, it is a type that this version has not.
func TestCorpus(t *testing.T) {
	verdicts, err := filepath.Glob("../core/conf/testdata/flume/*.verdict")
	must(t, err)
	if len(verdicts) < 40 {
		t.Fatalf("%d verdicts", len(verdicts))
	}
	milder, harsher := differences(t)
	var loses, refused, absent int
	for _, file := range verdicts {
		name := strings.TrimSuffix(filepath.Base(file), ".verdict")
		conf := strings.TrimSuffix(file, ".verdict") + ".conf"
		text, err := os.ReadFile(file)
		must(t, err)
		var v verdict
		must(t, json.Unmarshal(text, &v))
		text, err = os.ReadFile(conf)
		must(t, err)

		out, errs, code := millrace(t, vars{"NC_PORT": "6667"}, "validate", "-f", conf, "-n", v.Agent, "--format", "json")
		var said struct {
			Valid  bool
			Errors int
			Faults []struct {
				File, Severity, Message string
				Line                    int
			}
		}
		if err := json.Unmarshal([]byte(out), &said); err != nil {
			t.Errorf("%s: not JSON: %v\n%s%s", name, err, out, errs)
			continue
		}
		if valid := code == 0; valid != said.Valid || code != 0 && code != 2 || said.Valid != (said.Errors == 0) {
			t.Errorf("%s: exit code %d, valid %v, %d errors", name, code, said.Valid, said.Errors)
		}
		others := 0 // errors about something else than a type we have not
		for _, f := range said.Faults {
			// What a text lacks altogether is on no line.
			if f.File != conf || f.Line < 0 || f.Line > strings.Count(string(text), "\n")+1 {
				t.Errorf("%s: %s:%d is no place in it: %s", name, f.File, f.Line, f.Message)
			}
			switch {
			case f.Severity != "error":
			case strings.HasPrefix(f.Message, "there is no ") && strings.Contains(f.Message, " type "):
				absent++ // a name that the catalogue knows, without a component
			default:
				others++
			}
		}
		lost := v.loses(string(text)) && !milder[name]
		if lost && said.Valid {
			t.Errorf("%s: Flume loses something, we find no error", name)
		}
		if !lost && others > 0 && !harsher[name] {
			t.Errorf("%s: Flume takes it as it is, we do not:\n%s", name, out)
		}
		if lost {
			loses++
		}
		if !said.Valid {
			refused++
		}
	}
	t.Logf("%d configurations: Flume loses something of %d; we refuse %d, and have %d errors about types that are not here", len(verdicts), loses, refused, absent)
}

// differences reads which configurations are judged otherwise than by Flume on
// purpose; the reasons stand in the file.
func differences(t *testing.T) (milder, harsher map[string]bool) {
	text, err := os.ReadFile("../core/conf/testdata/flume/differences.txt")
	must(t, err)
	milder, harsher = map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		head, _, _ := strings.Cut(line, " : ")
		words := strings.Fields(head)
		if len(words) < 2 || words[0] == "#" {
			continue
		}
		switch words[1] {
		case "milder":
			milder[words[0]] = true
		case "harsher":
			harsher[words[0]] = true
		}
	}
	return milder, harsher
}
