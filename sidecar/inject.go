package sidecar

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/sidecar/inject"
)

// inject adds the sidecar to the workloads of a manifest. What goes into it is
// validated first, in the environment that the sidecar will have.
func (p *Program) inject(args []string) int {
	f := newFlags(p, "inject")
	o := inject.Defaults(versionOf().Version)
	in, out, config, undo := "-", "-", "", false
	f.String(&in, "filename", "f", "FILE", "the manifest, YAML or JSON; - is standard input (default -)")
	f.String(&out, "output", "o", "FILE", "where to write it, which may be the same file (default: standard output)")
	f.String(&config, "config", "", "FILE", "the configuration; it becomes a ConfigMap beside each workload")
	f.Bool(&undo, "uninject", "", "take out what inject has added")
	f.Bool(&o.Classic, "classic", "", "an ordinary container, for clusters without native sidecars (before 1.29)")
	for _, s := range inject.Settings() {
		f.add(valueFunc(func(text string) error { return s.Set(&o, text) }), s.Name, "", s.Arg, s.Doc)
	}
	for _, s := range inject.Lists() {
		f.add(valueFunc(func(text string) error { return s.Set(&o, text) }), s.Name, "", s.Arg, s.Doc+" (may be repeated)")
	}
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	if config != "" && o.ConfigMap != "" {
		return f.wrong("--config and --configmap exclude each other")
	}
	if config != "" && !undo {
		if !p.sidecarConfig(config, &o) {
			return exitConfig
		}
	}
	name, text, err := p.manifest(in)
	if err != nil {
		p.complain("inject: " + err.Error())
		return exitFailed
	}
	if undo {
		text, err = inject.Uninject(name, text)
	} else {
		text, err = inject.Inject(name, text, o)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return exitConfig
	}
	if out == "-" {
		_, err = p.Stdout.Write(text)
	} else {
		err = os.WriteFile(out, text, 0o666)
	}
	if err != nil {
		p.complain("inject: " + err.Error())
		return exitFailed
	}
	return exitOK
}

// manifest reads no more than it takes to see that a manifest is too large.
func (p *Program) manifest(in string) (name string, text []byte, err error) {
	r, name := p.Stdin, "standard input"
	if in != "-" {
		file, err := os.Open(in)
		if err != nil {
			return in, nil, err
		}
		defer file.Close()
		r, name = file, in
	}
	text, err = io.ReadAll(io.LimitReader(r, inject.MaxInput+1))
	if err != nil {
		return name, nil, fmt.Errorf("read manifest: %w", err)
	}
	return name, text, nil
}

// assumed is the value of an environment variable that is known only in the pod, while the configuration is validated.
const assumed = "1"

// sidecarConfig reads and validates the configuration, and takes out of it what a pod must know. It says what is wrong.
func (p *Program) sidecarConfig(file string, o *inject.Options) bool {
	t := readText(file)
	if t.err == nil && len(t.text) > conf.MaxFile {
		t.err = errors.New("it is too large")
	}
	if t.err != nil {
		printFaults(p.Stderr, conf.Faults{{Pos: conf.Pos{File: file}, Severity: conf.Error, Text: "read configuration: " + t.err.Error()}})
		return false
	}
	o.Config = append([]byte{}, t.text...)
	there := *p // in the pod
	known := o.Variables()
	there.Env = func(name string) (string, bool) {
		v, ok := known[name]
		if !ok && len(o.EnvFrom) > 0 {
			return assumed, true
		}
		return cmp.Or(v, assumed), ok
	}
	s := source{files: []string{file}, name: o.Agent, offline: true, never: true}
	s.read = func(string) ([]byte, error) { return t.text, nil }
	v, _ := s.verdict(&there)
	printFaults(p.Stderr, v.Faults)
	if !v.Valid {
		return false
	}
	for _, name := range v.Agents {
		s.name = name
		agent, _ := s.load(&there)
		o.Agents = append(o.Agents, podNeeds(agent))
	}
	return p.headersFit(file, there, *o)
}

// headersFit validates the configuration with the file of headers that goes with it.
func (p *Program) headersFit(file string, there Program, o inject.Options) bool {
	for _, a := range o.Agents {
		o.Agent = a.Name
		headers := o.HeadersFile()
		if headers == "" {
			continue
		}
		s := source{files: []string{file, "headers.conf"}, name: a.Name, offline: true, never: true}
		s.read = func(name string) ([]byte, error) {
			if name == file {
				return o.Config, nil
			}
			return []byte(headers), nil
		}
		if agent, faults := s.load(&there); agent == nil {
			printFaults(p.Stderr, faults)
			return false
		}
	}
	return true
}

// podNeeds is what a pod must know of an agent: the directories that it reads and writes, and the chains that headers are added to.
func podNeeds(a *conf.Agent) inject.Agent {
	need := inject.Agent{Name: a.Name}
	for _, s := range a.Sources {
		chain := inject.SourceChain{Name: s.Name}
		for _, i := range s.Interceptors {
			chain.Interceptors = append(chain.Interceptors, i.Name)
		}
		need.Sources = append(need.Sources, chain)
		for _, l := range logDirs(s) {
			need.LogPaths = addLogPath(need.LogPaths, l)
		}
		need.Writes = append(need.Writes, written(a.Name+".sources.", s.Component)...)
	}
	for _, c := range a.Channels {
		need.Writes = append(need.Writes, written(a.Name+".channels.", *c)...)
	}
	for _, s := range a.Sinks {
		need.Writes = append(need.Writes, written(a.Name+".sinks.", s.Component)...)
	}
	return need
}

// logDirs are the directories that a source reads files of.
func logDirs(s *conf.Source) []inject.LogPath {
	var dirs []inject.LogPath
	add := func(dir string, write bool) {
		if path.IsAbs(dir) && path.Clean(dir) != "/" {
			dirs = append(dirs, inject.LogPath{Dir: path.Clean(dir), Write: write})
		}
	}
	for _, prop := range s.Props {
		switch {
		case s.Type == "taildir" && strings.HasPrefix(prop.Key, "filegroups."):
			add(path.Dir(prop.Value), false)
		case s.Type == "spooldir" && prop.Key == "spoolDir":
			add(prop.Value, true)
		case s.Type == "exec" && prop.Key == "command":
			words := strings.Fields(prop.Value)
			if len(words) == 0 || path.Base(words[0]) != "tail" {
				continue
			}
			for _, word := range words[1:] {
				add(path.Dir(word), false)
			}
		}
	}
	return dirs
}

// addLogPath adds a directory once, and once more only to say that it is written to.
func addLogPath(all []inject.LogPath, l inject.LogPath) []inject.LogPath {
	for i := range all {
		if all[i].Dir == l.Dir {
			all[i].Write = all[i].Write || l.Write
			return all
		}
	}
	return append(all, l)
}

// writtenKeys are the keys that name a file or, where true, directories that a component writes to.
var writtenKeys = map[string]bool{
	"positionFile": false, "trackerDir": true, "checkpointDir": true, "backupCheckpointDir": true, "dataDirs": true, "sink.directory": true,
}

func written(of string, c conf.Component) []inject.Written {
	var all []inject.Written
	for _, prop := range c.Props {
		isDir, ok := writtenKeys[prop.Key]
		if !ok {
			continue
		}
		for _, dir := range strings.Split(prop.Value, ",") {
			dir = strings.TrimSpace(dir)
			if !path.IsAbs(dir) { // below --state-dir, or another directory of the source
				continue
			}
			if !isDir {
				dir = path.Dir(dir)
			}
			all = append(all, inject.Written{Dir: dir, Where: prop.Pos.String() + ": " + of + c.Name + "." + prop.Key})
		}
	}
	return all
}
