//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/sidecar"
)

// corpus are configurations with what Flume makes of them.
const corpus = "../core/conf/testdata/flume"

// flumeVerdict is what Flume 1.11 makes of a configuration, as far as it is compared.
type flumeVerdict struct {
	Agent string
	Parse struct {
		Error string
		Log   []string
	}
	Load struct {
		Error                    string
		Sources, Channels, Sinks map[string]json.RawMessage
		Groups                   map[string]struct{ Sinks []string }
		Log                      []string
	}
}

func (v flumeVerdict) parts() map[string]bool {
	p := make(map[string]bool)
	for kind, m := range map[string]map[string]json.RawMessage{"source": v.Load.Sources, "channel": v.Load.Channels, "sink": v.Load.Sinks} {
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

func partsOf(a *conf.Agent) map[string]bool {
	p := make(map[string]bool)
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

// minus is what is in a and not in b, in order.
func minus(a, b map[string]bool) (all []string) {
	for p := range a {
		if !b[p] {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// judged is our lenient agent of a file, and all that is said of it.
func judged(t *testing.T, file, agent string) (ours *conf.Agent, faults conf.Faults) {
	t.Helper()
	o := conf.Options{Files: []string{file}, Lenient: true, Env: func(name string) (string, bool) { return "6667", name == "NC_PORT" }}
	text, faults := conf.Load(o)
	if faults != nil {
		t.Fatal(faults)
	}
	return text.Build(agent, sidecar.Catalog(), o)
}

// property is a line that can be changed: key, equals sign, value.
var property = regexp.MustCompile(`^([\w.-]+)(\s*=\s*)([^\\]*)$`)

// mutator changes one thing in a configuration, as a hand does that writes it.
type mutator struct {
	*rand.Rand
	lines []string
}

// at are the lines of properties whose key fits, but for those whose value is
// something outside of the configuration: a file, a program.
func (m *mutator) at(key string) (all []int) {
	fits := regexp.MustCompile(key)
	for i, l := range m.lines {
		if f := property.FindStringSubmatch(l); f != nil && fits.MatchString(f[1]) && !strings.ContainsAny(f[3], `/${`) && !strings.Contains(f[1], "configfilters") {
			all = append(all, i)
		}
	}
	return all
}

// change puts a new key and value in one of those lines.
func (m *mutator) change(key string, with func(key, value string) (string, string)) bool {
	at := m.at(key)
	if len(at) == 0 {
		return false
	}
	i := at[m.IntN(len(at))]
	f := property.FindStringSubmatch(m.lines[i])
	k, v := with(f[1], f[3])
	now := k + f[2] + v
	changed := now != m.lines[i]
	m.lines[i] = now
	return changed
}

func (m *mutator) of(list ...string) string { return list[m.IntN(len(list))] }

// typo drops a letter, doubles one or swaps two.
func (m *mutator) typo(s string) string {
	if len(s) < 2 {
		return s + "x"
	}
	i := m.IntN(len(s) - 1)
	switch m.IntN(3) {
	case 0:
		return s[:i] + s[i+1:]
	case 1:
		return s[:i] + s[i:i+1] + s[i:]
	}
	return s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]
}

// segment changes one of the words between the dots of a key, but for the agent.
func (m *mutator) segment(key string, change func(string) string) string {
	words := strings.Split(key, ".")
	if len(words) > 1 {
		if i := 1 + m.IntN(len(words)-1); words[i] != "" {
			words[i] = change(words[i])
		}
	}
	return strings.Join(words, ".")
}

const (
	anyKey = `.`
	lists  = `\.(channels|sinks|sources|sinkgroups|interceptors|channel)$`
	types  = `\.type$`
	number = `(?i)\.(\w*size|\w*capacity|\w*timeout|port|\w*interval|\w*events|\w*count|batch-size|keep-alive|priority\.\w+|maxpenalty|max\w+)$`
)

var mutations = map[string]func(m *mutator) bool{
	"a line is dropped": func(m *mutator) bool {
		at := m.at(anyKey)
		if len(at) == 0 {
			return false
		}
		i := at[m.IntN(len(at))]
		m.lines = slices.Delete(m.lines, i, i+1)
		return true
	},
	"case of a key": func(m *mutator) bool {
		return m.change(anyKey, func(k, v string) (string, string) {
			return m.segment(k, func(w string) string {
				if m.IntN(2) == 0 {
					return strings.ToUpper(w[:1]) + w[1:]
				}
				return strings.ToLower(w)
			}), v
		})
	},
	"typo in a key": func(m *mutator) bool {
		return m.change(anyKey, func(k, v string) (string, string) { return m.segment(k, m.typo), v })
	},
	"typo in a list": func(m *mutator) bool {
		return m.change(lists, func(k, v string) (string, string) { return k, m.typo(v) })
	},
	"typo in a type": func(m *mutator) bool {
		return m.change(types, func(k, v string) (string, string) { return k, m.typo(v) })
	},
	"another type": func(m *mutator) bool {
		return m.change(types, func(k, v string) (string, string) {
			return k, m.of("no_such_type", "memory", "logger", "netcat", "avro", "null", "default", "replicating", "com.example.Own", strings.ToUpper(v), "", "org.apache.flume.sink.NullSink")
		})
	},
	"a number": func(m *mutator) bool {
		return m.change(number, func(k, v string) (string, string) {
			return k, m.of("many", "-1", "0", "1", "99999999999", "10s", "1.5", "", "0x10", "5 # five", "1000000", "65536", v+",")
		})
	},
	"a name more": func(m *mutator) bool {
		return m.change(lists, func(k, v string) (string, string) { return k, v + m.of(" nobody", ", nobody", " # note", " "+v) })
	},
	"a name less": func(m *mutator) bool {
		return m.change(lists, func(k, v string) (string, string) {
			names := strings.Fields(v)
			if len(names) == 0 {
				return k, v
			}
			i := m.IntN(len(names))
			return k, strings.Join(slices.Delete(names, i, i+1), " ")
		})
	},
	"commas in a list": func(m *mutator) bool {
		return m.change(lists, func(k, v string) (string, string) { return k, strings.Join(strings.Fields(v), m.of(",", ", ")) })
	},
	"values swapped": func(m *mutator) bool {
		at := m.at(anyKey)
		if len(at) < 2 {
			return false
		}
		i, j := at[m.IntN(len(at))], at[m.IntN(len(at))]
		a, b := property.FindStringSubmatch(m.lines[i]), property.FindStringSubmatch(m.lines[j])
		m.lines[i], m.lines[j] = a[1]+a[2]+b[3], b[1]+b[2]+a[3]
		return a[3] != b[3]
	},
	"no value": func(m *mutator) bool {
		return m.change(anyKey, func(k, _ string) (string, string) { return k, "" })
	},
	"quotes": func(m *mutator) bool {
		return m.change(anyKey, func(k, v string) (string, string) { return k, `"` + v + `"` })
	},
}

// TestConfigurationMutants holds our judgement of configurations with a mistake
// in them against that of Flume's own classes: a lenient agent has the
// components that run in Flume, but for rules.
func TestConfigurationMutants(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("MILLRACE_E2E_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		seed = n
	}
	files, err := filepath.Glob(corpus + "/*.conf")
	must(t, err)
	dir := workDir(t)
	kinds := slices.Sorted(maps.Keys(mutations))
	type mutant struct{ file, from, kind string }
	var mutants []mutant
	from := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		must(t, err)
		text := string(raw)
		var v flumeVerdict
		verdictOf(t, strings.TrimSuffix(file, ".conf")+".verdict", &v)
		ours, _ := judged(t, file, v.Agent)
		kept := partsOf(ours)
		if strings.ContainsAny(text, "\\\r\f") || strings.ContainsFunc(text, func(r rune) bool { return r > 126 }) ||
			len(kept) == 0 || !maps.Equal(kept, v.parts()) || !strings.Contains(text, "# agent: ") {
			continue // where to begin both agree
		}
		from++
		for i := range pick(1, 4) * len(kinds) {
			m := &mutator{rand.New(rand.NewPCG(seed, uint64(1000*from+i))), strings.Split(text, "\n")}
			kind := kinds[i%len(kinds)]
			if !mutations[kind](m) {
				continue
			}
			f := filepath.Join(dir, fmt.Sprintf("%04d.conf", len(mutants)))
			write(t, f, strings.Join(m.lines, "\n"))
			mutants = append(mutants, mutant{f, filepath.Base(file), kind})
		}
	}
	args := []string{"oracle/run.sh", "conf"}
	for _, m := range mutants {
		args = append(args, m.file)
	}
	if out, err := exec.Command("bash", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	agreed, explained := 0, make(map[string]int)
	for _, m := range mutants {
		var v flumeVerdict
		verdictOf(t, strings.TrimSuffix(m.file, ".conf")+".verdict", &v)
		ours, faults := judged(t, m.file, v.Agent)
		kept := partsOf(ours)
		more, less := minus(kept, v.parts()), minus(v.parts(), kept)
		if len(more)+len(less) == 0 {
			agreed++
			continue
		}
		was, err := os.ReadFile(filepath.Join(corpus, m.from))
		must(t, err)
		now, err := os.ReadFile(m.file)
		must(t, err)
		edited, text := changes(string(was), string(now))
		if rule := explain(v, ours, edited, more, less, faults); rule != "" {
			explained[rule]++
			continue
		}
		t.Errorf("%s, %s of %s:\n%swe have more: %v, less: %v\nwe say:\n%vFlume says: %s %s %q", filepath.Base(m.file), m.kind, m.from,
			text, more, less, faults, v.Parse.Error, v.Load.Error, slices.Concat(v.Parse.Log, v.Load.Log))
	}
	n := 0
	for _, rule := range slices.Sorted(maps.Keys(explained)) {
		t.Logf("%4d %s", explained[rule], rule)
		n += explained[rule]
	}
	t.Logf("%d mutants of %d configurations: %d agree, %d differ by rule, %d unexplained", len(mutants), from, agreed, n, len(mutants)-agreed-n)
}

func verdictOf(t *testing.T, file string, v *flumeVerdict) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, json.Unmarshal(text, v))
}

// changes shows the lines in which two texts differ, and names the keys of those in the second.
func changes(was, now string) (keys []string, text string) {
	a, b := strings.Split(was, "\n"), strings.Split(now, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			text += "  - " + l + "\n"
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			text += "  + " + l + "\n"
			if f := property.FindStringSubmatch(l); f != nil {
				keys = append(keys, f[1])
			}
		}
	}
	return keys, text
}

// Rules by which our judgement is not the one of Flume, on purpose.
const (
	ruleClass   = "Flume starts nothing when one class is unknown or of another kind; we leave that component out"
	ruleNoSinks = "Flume dies of a group without sinks; we leave the group out"
	ruleMember  = "Flume starts nothing when a sink of a group is faulty; the group goes on with the others here"
	ruleValue   = "Flume takes a value that makes no sense, or finds that out when it starts; we refuse it"
	ruleDefault = "Flume drops a component for a number that is none; here the default holds, with a warning"
	ruleUnit    = "Flume drops a component for a number with a unit; it may have one here"
	ruleInert   = "Flume drops a component for a number that is none in a key that has no effect here"
)

var (
	noClass   = regexp.MustCompile(`^org\.apache\.flume\.FlumeException: Unable to (load|create) .*java\.lang\.(ClassNotFound|ClassCast|NoSuchMethod)Exception`)
	noMember  = regexp.MustCompile(`Sink \S+ of group \S+ does not exist or is not properly configured`)
	notNumber = regexp.MustCompile(`(Source|Channel|Sink) (\S+) has been removed .* java\.lang\.NumberFormatException`)
	badValue  = regexp.MustCompile(` must be | is not a | is not the name of a |^priority \d+ is also that of `)
)

// explain names the rule by which a mutant is judged otherwise; it is empty if
// there is none. edited are the keys that the mutation has touched.
func explain(v flumeVerdict, ours *conf.Agent, edited, more, less []string, faults conf.Faults) string {
	// A fault of a key that was written by an old name, such as topic for kafka.topic, has the new one.
	said := func(what func(string) bool, key string) bool {
		part, name := partOf(key, v.Agent)
		return slices.ContainsFunc(faults, func(f conf.Fault) bool {
			in, called := partOf(f.Key, v.Agent)
			return (f.Key == key || name != "" && in == part && strings.HasSuffix(called, "."+name)) && what(f.Text)
		})
	}
	switch {
	case noClass.MatchString(v.Load.Error):
		return ruleClass
	case strings.HasPrefix(v.Parse.Error, "java.lang.NullPointerException") && slices.ContainsFunc(faults, func(f conf.Fault) bool {
		return strings.HasPrefix(f.Key, v.Agent+".sinkgroups.") && strings.HasPrefix(f.Text, "is required: Flume does not start with a group without it")
	}):
		return ruleNoSinks
	case len(v.parts()) == 0 && slices.ContainsFunc(v.Load.Log, noMember.MatchString):
		return ruleMember
	case len(more) > 0 && len(less) > 0:
		return ""
	}
	var refused []string // for the value of a key that was touched
	for _, key := range edited {
		if part, _ := partOf(key, v.Agent); slices.Contains(less, part) && said(badValue.MatchString, key) {
			refused = append(refused, part)
		}
	}
	if len(refused) > 0 && !slices.ContainsFunc(less, func(part string) bool {
		channel, ok := strings.CutPrefix(part, "channel/")
		return !slices.ContainsFunc(refused, func(r string) bool { return v.hangs(part, r) }) &&
			!(ok && said(func(text string) bool { return strings.HasPrefix(text, "has no source and no sink") }, v.Agent+".channels."+channel))
	}) {
		return ruleValue
	}
	for _, key := range edited {
		part, name := partOf(key, v.Agent)
		switch {
		case !slices.Contains(more, part) || !slices.ContainsFunc(v.Load.Log, func(l string) bool {
			m := notNumber.FindStringSubmatch(l)
			return m != nil && strings.ToLower(m[1])+"/"+m[2] == part
		}):
		case said(func(text string) bool { return strings.Contains(text, ": the default ") }, key):
			return ruleDefault
		default:
			for _, doc := range docsOf(ours, part) {
				switch {
				case doc.Name == name && doc.Inert:
					return ruleInert
				case doc.Name == name && (doc.Type == "duration" || doc.Type == "size"):
					return ruleUnit
				}
			}
		}
	}
	return ""
}

// hangs tells whether a part goes when that other one is refused: itself, the
// group of a sink or the sinks of a group, and the sinks of a channel.
func (v flumeVerdict) hangs(part, refused string) bool {
	if part == refused {
		return true
	}
	if channel, ok := strings.CutPrefix(refused, "channel/"); ok {
		var sink struct{ Channel string }
		name, _ := strings.CutPrefix(part, "sink/")
		if text := v.Load.Sinks[name]; text != nil && json.Unmarshal(text, &sink) == nil && sink.Channel == channel {
			return true
		}
	}
	for name, g := range v.Load.Groups {
		in := func(p string) bool {
			return p == "group/"+name || slices.Contains(g.Sinks, strings.TrimPrefix(p, "sink/"))
		}
		if in(part) && in(refused) {
			return true
		}
	}
	return false
}

// partOf is the component that a key is of, and the key within it.
func partOf(key, agent string) (part, name string) {
	f := strings.SplitN(strings.TrimPrefix(key, agent+"."), ".", 3)
	if len(f) < 3 {
		return "", ""
	}
	return map[string]string{"sources": "source/", "channels": "channel/", "sinks": "sink/", "sinkgroups": "group/"}[f[0]] + f[1], f[2]
}

// docsOf are the keys of a component of an agent.
func docsOf(a *conf.Agent, part string) []conf.KeyDoc {
	for _, c := range a.Channels {
		if part == "channel/"+c.Name {
			return conf.Describe(c.Bound)
		}
	}
	for _, c := range a.Sources {
		if part == "source/"+c.Name {
			return conf.Describe(c.Bound)
		}
	}
	for _, c := range a.Sinks {
		if part == "sink/"+c.Name {
			return conf.Describe(c.Bound)
		}
	}
	return nil
}
