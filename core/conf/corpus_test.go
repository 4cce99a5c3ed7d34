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

// differences are where the lenient agent is not the one of Flume, on purpose: first what it has more, then less.
var differences = map[string]struct{ more, less, why string }{
	"04-inline-comment-type": {"channel/c1 sink/k1", "", "Flume starts nothing when one class is unknown; we leave that component out"},
	"19-wrong-values":        {"", "source/r4", "port 99999 is refused before anything starts; Flume's source fails at start, for ever"},
	"23-class-names":         {"", "group/g1 sink/k1 sink/k2", "the sinks of a group take from one channel"},
	"28-selector-faults":     {"source/r4", "", "load_balancing, which Flume's guide has, works"},
	"36-unknown-class":       {"channel/c1 sink/k2 source/r1 source/r2", "", "as 04"},
	"40-byte-order-mark":     {"source/r1", "", "a byte order mark is skipped"},
	"43-group-without-sinks": {"channel/c1 sink/k1 sink/k2 source/r1", "", "Flume dies; we leave the group out"},
	"44-group-loses-sink":    {"channel/c1 group/g1 sink/k1 sink/k3 source/r1", "", "Flume starts nothing; we leave the sink out"},
	"45-config-filter":       {"", "channel/c1 sink/k1 source/r1", "config filters are not in this version"},
	"47-bad-escape":          {"channel/c1 sink/k1", "", "Flume reads nothing of the file; we leave the source out"},
}

// harsher are configurations that Flume takes as they are and we refuse; why.
var harsher = map[string]string{
	"23-class-names":        "the sinks of a group take from one channel",
	"31-sink-in-two-groups": "which group has the sink is by chance in Flume",
}

// milder are configurations that lose something in Flume and nothing here; why.
var milder = map[string]string{
	"40-byte-order-mark": "a byte order mark is skipped",
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
func TestFlumeVerdicts(t *testing.T) {
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
			d := differences[name]
			if diff := cmp.Diff([]string{d.more, d.less}, []string{more.String(), less.String()}); diff != "" {
				t.Errorf("more and less than in Flume, -expected +is:\n%s%s", diff, join(faults))
			}
			loses := v.loses(text)
			_, moreFaults := harsher[name]
			_, fewerFaults := milder[name]
			if refuses := strict == nil; refuses != (loses && !fewerFaults || moreFaults) {
				t.Errorf("Flume loses something: %v; we refuse: %v\n%s", loses, refuses, join(faults))
			}
		})
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
		kind := strings.TrimSuffix(list, "s")
		if !ok || kind != "source" && kind != "sink" {
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
