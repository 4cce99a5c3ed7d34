package conf_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/millrace/millrace/core/conf"
)

// verdict is what Flume 1.11 made of a configuration, as far as it is compared.
type verdict struct {
	Agent string
	Parse struct{ Sources, Channels, Sinks []string }
	Load  struct {
		Error    string
		Sources  map[string]json.RawMessage
		Channels map[string]json.RawMessage
		Sinks    map[string]json.RawMessage
		Groups   map[string]struct{ Sinks []string }
	}
}

// parts are the components that run, as kind/name.
type parts map[string]bool

func (v verdict) parts() parts {
	p := parts{}
	for kind, m := range map[string]map[string]json.RawMessage{
		"source": v.Load.Sources, "channel": v.Load.Channels, "sink": v.Load.Sinks,
	} {
		for name := range m {
			p[kind+"/"+name] = true
		}
	}
	for name, g := range v.Load.Groups {
		p["group/"+name] = true
		for _, sink := range g.Sinks {
			p["sink/"+sink] = true
		}
	}
	return p
}

func partsOf(a *conf.Agent) parts {
	p := parts{}
	if a == nil {
		return p
	}
	for _, s := range a.Sources {
		p["source/"+s.Name] = true
	}
	for _, c := range a.Channels {
		p["channel/"+c.Name] = true
	}
	for _, s := range a.Sinks {
		p["sink/"+s.Name] = true
	}
	for _, g := range a.Groups {
		p["group/"+g.Name] = true
	}
	return p
}

func (p parts) String() string { return strings.Join(slices.Sorted(maps.Keys(p)), " ") }

// difference is what testdata/flume/differences.txt says of a configuration.
type difference struct {
	more, less      parts
	milder, harsher bool
}

// differences reads where our judgement is not the one of Flume, on purpose.
func differences(t *testing.T) map[string]difference {
	text, err := os.ReadFile("testdata/flume/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]difference{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		entry, why, ok := strings.Cut(line, " : ")
		words := strings.Fields(entry)
		if !ok || len(words) == 0 || strings.TrimSpace(why) == "" {
			t.Fatalf("differences.txt: %q has no name or no reason", line)
		}
		d := difference{more: parts{}, less: parts{}}
		for _, w := range words[1:] {
			switch {
			case w == "milder":
				d.milder = true
			case w == "harsher":
				d.harsher = true
			case w[0] == '+':
				d.more[w[1:]] = true
			case w[0] == '-':
				d.less[w[1:]] = true
			default:
				t.Fatalf("differences.txt: %q", w)
			}
		}
		all[words[0]] = d
	}
	return all
}

func verdicts(t *testing.T) []string {
	files, err := filepath.Glob("testdata/flume/*.verdict")
	if err != nil || len(files) == 0 {
		t.Fatalf("no verdicts: %v", err)
	}
	return files
}

func readVerdict(t *testing.T, file string) (v verdict) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// options are the environment that Flume read the corpus in.
func options(file string) conf.Options {
	return conf.Options{Files: []string{file}, Env: func(name string) (string, bool) { return "6667", name == "NC_PORT" }}
}

// TestFlumeVerdicts holds our judgement of real configurations against that of Flume 1.11: a lenient agent has the
// components that run there, and a strict look finds an error exactly where Flume loses one.
//
// flume: TestAgentConfiguration testConfigHasNoErrors testSourcesAdded testFiltersAdded testSinksAdded
// flume: TestAgentConfiguration testChannelsAdded testSinkGroupsAdded testChannelsConfigMappedCorrectly
// flume: TestAgentConfiguration testConfigFilterConfigMappedCorrectly testSourceConfigMappedCorrectly
// flume: TestAgentConfiguration testSinkConfigMappedCorrectly testSinkgroupConfigMappedCorrectly
// flume: TestFlumeConfiguration testFLUME1743
// flume: TestAbstractConfigurationProvider testSourceThrowsExceptionDuringConfiguration
// flume: TestAbstractConfigurationProvider testChannelThrowsExceptionDuringConfiguration
// flume: TestAbstractConfigurationProvider testSinkThrowsExceptionDuringConfiguration
// flume: TestAbstractConfigurationProvider testSourceAndSinkThrowExceptionDuringConfiguration
// flume: TestAbstractConfigurationProvider testSinkSourceMismatchDuringConfiguration
func TestFlumeVerdicts(t *testing.T) {
	expected := differences(t)
	for _, file := range verdicts(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".verdict")
		t.Run(name, func(t *testing.T) {
			v := readVerdict(t, file)
			o := options("testdata/flume/" + name + ".conf")
			text, faults := conf.Load(o)
			if faults != nil {
				t.Fatal(faults)
			}
			strict, faults := text.Build(v.Agent, catalog, o)
			o.Lenient = true
			lenient, _ := text.Build(v.Agent, catalog, o)

			more, less := parts{}, parts{}
			want, got := v.parts(), partsOf(lenient)
			for p := range got {
				if !want[p] {
					more[p] = true
				}
			}
			for p := range want {
				if !got[p] {
					less[p] = true
				}
			}
			d := expected[name]
			if diff := cmp.Diff([]string{d.more.String(), d.less.String()}, []string{more.String(), less.String()}); diff != "" {
				t.Errorf("more and less than in Flume, -expected +is:\n%s%s", diff, join(faults))
			}
			loses := v.loses(text)
			if refuses := strict == nil; refuses != (loses && !d.milder || d.harsher) {
				t.Errorf("Flume loses something: %v; we refuse: %v\n%s", loses, refuses, join(faults))
			}
			places(t, o.Files[0], faults)
		})
		delete(expected, name)
	}
	for name := range expected {
		t.Errorf("differences.txt has %s, which is no configuration", name)
	}
}

// places checks that each fault is at a line of the file, but for what the text lacks altogether.
func places(t *testing.T, file string, faults conf.Faults) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(strings.ReplaceAll(string(text), "\r", "\n"), "\n") + 1
	for _, f := range faults {
		if f.Pos.File != file || f.Pos.Line < 0 || f.Pos.Line > lines || f.Pos.Line == 0 && !strings.Contains(f.Text, "no agent of this name") {
			t.Errorf("no place: %s", f)
		}
	}
}

// loses tells whether a declared component does not run in Flume, but for channels that nobody uses.
func (v verdict) loses(text *conf.Text) bool {
	if v.Load.Error != "" {
		return true
	}
	runs := v.parts()
	for _, p := range text.Properties() {
		list, ok := strings.CutPrefix(p.Key, v.Agent+".")
		kind := map[string]string{"sources": "source", "sinks": "sink", "sinkgroups": "group"}[list]
		if !ok || kind == "" {
			continue
		}
		value, _, _ := strings.Cut(p.Value, " #")
		for name := range strings.FieldsSeq(value) {
			if !runs[kind+"/"+name] {
				return true
			}
		}
	}
	return len(runs) == 0
}

func join(faults conf.Faults) string {
	var b strings.Builder
	for _, f := range faults {
		b.WriteString(f.Severity.String() + " " + f.String() + "\n")
	}
	return b.String()
}
