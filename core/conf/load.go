package conf

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say where a configuration comes from, and how strictly it is read.
type Options struct {
	Files    []string                          // in order: later files override earlier ones
	Sys      map[string]string                 // -Dname=value, for ${sys:name}
	Env      func(name string) (string, bool)  // for ${env:NAME}; nil: the environment of the process
	Now      func() time.Time                  // for ${date:pattern}; nil: time.Now
	ReadFile func(name string) ([]byte, error) // nil: the file system
	Strict   bool                              // warnings are errors
	Offline  bool                              // config filters are not asked; what waits for one is checked but for that value, and left out of the agent
	Lenient  bool                              // faulty components are left out, as Flume does; errors are warnings
}

// FromText are the options to load one text that is no file, under a name for messages.
func FromText(name, text string) Options {
	return Options{Files: []string{name}, ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
}

func (o Options) withDefaults() Options {
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	return o
}

// readFile reads no more than it takes to see that a file is too large.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// Text is the property table of all files: merged, and with every ${...} resolved. It is not changed once loaded.
type Text struct {
	files []string
	props []Property // in order of appearance, keys and values trimmed; one for each key
	found []early    // faults of lines, to be told by Build to whom they concern
}

// Load reads and merges the files of o. The faults are those of whole files; what is wrong with single keys is told by
// [Text.Build], of the agent it builds. The text is nil exactly when there is an error.
func Load(o Options) (*Text, Faults) {
	o = o.withDefaults()
	t := &Text{files: o.Files}
	var faults Faults
	if len(o.Files) == 0 {
		faults = append(faults, Fault{Severity: Error, Text: "no configuration was given", Hint: "name one with --conf-file"})
	}
	index := map[string]int{}
	read := 0
	for _, name := range o.Files {
		props, found, fault := loadFile(name, o)
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		read++
		t.found = append(t.found, found...)
		for _, p := range props {
			t.set(index, p)
		}
	}
	if read > 0 {
		// One file that can not be read among others is what Flume goes on without.
		for i := range faults {
			faults[i].Severity = Warning
		}
	}
	if o.Strict {
		faults.promote()
	}
	if faults.HasErrors() {
		return nil, faults
	}
	t.resolve(o)
	return t, faults
}

func loadFile(name string, o Options) ([]Property, []early, *Fault) {
	fault := func(text, hint string) *Fault {
		return &Fault{Pos: Pos{File: name}, Severity: Error, Text: text, Hint: hint}
	}
	_, ext, _ := strings.Cut(filepath.Base(name), ".")
	if ext == "json" || ext == "yaml" || ext == "xml" {
		return nil, nil, fault("a configuration in "+ext+" is not read", "write it as properties")
	}
	text, err := o.ReadFile(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) && path.Path == name {
			err = path.Err // the name is said once
		}
		return nil, nil, fault("read configuration: "+err.Error(), "")
	}
	if len(text) > MaxFile {
		return nil, nil, fault(fmt.Sprintf("a configuration is larger than the limit of %d bytes", MaxFile), "")
	}
	props, found := parseProperties(name, text, MaxFile)
	return props, found, nil
}

// set puts a property in the table in place of an earlier one of its key.
func (t *Text) set(index map[string]int, p Property) {
	p.Key = javaTrim(p.Key)
	if i, again := index[p.Key]; again {
		t.props[i] = p
		return
	}
	index[p.Key] = len(t.props)
	t.props = append(t.props, p)
}

// resolve replaces the references in all values, and trims these.
func (t *Text) resolve(o Options) {
	r := resolver{
		raw: make(map[string]string, len(t.props)), sys: o.Sys, env: o.Env, now: o.Now(),
		legacy: o.Sys["propertiesImplementation"] == legacyProperties,
		used:   map[string]bool{},
	}
	nested := false // a name that is itself made of references may be any key
	for _, p := range t.props {
		r.raw[p.Key] = p.Value
		nested = nested || strings.Contains(p.Value, "${${")
	}
	for i := range t.props {
		t.expand(&r, &t.props[i])
	}
	for _, p := range t.props {
		agent, rest, dotted := strings.Cut(p.Key, ".")
		if dotted && agent != "" && rest != "" || r.used[p.Key] || nested && p.Value != "" {
			continue
		}
		t.found = append(t.found, early{Fault: Fault{
			p.Pos, Warning, p.Key, "ignored: a key is agent.sources, agent.channels.NAME.KEY and the like", "",
		}})
	}
}

func (t *Text) expand(r *resolver, p *Property) {
	value, err := r.resolve(p.Value)
	report := func(s Severity, text, hint, veiled string) {
		t.found = append(t.found, early{Fault{p.Pos, s, p.Key, text, hint}, veiled})
	}
	if err != nil {
		report(Error, err.Error(), hintOf(err), "a reference ${...} can not be resolved")
		value = p.Value
	}
	for _, name := range r.unresolved {
		if isFilterReference(name) {
			continue // Build knows the filters of the agent
		}
		report(Warning, "${"+name+"} is not defined and stays as it is", r.unresolvedHint(name),
			"a reference ${...} is not defined and stays as it is")
	}
	if value != p.Value {
		p.written = javaTrim(p.Value)
	}
	p.Value = javaTrim(value)
}

// Properties are all keys with their values in clear, in order of appearance.
func (t *Text) Properties() []Property { return slices.Clone(t.props) }

// AgentNames are the agents that declare sources, channels or sinks, sorted.
func (t *Text) AgentNames() []string {
	names := map[string]bool{}
	for _, p := range t.props {
		agent, rest, _ := strings.Cut(p.Key, ".")
		if agent != "" && slices.Contains(listKeys, rest) {
			names[agent] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
