package sidecar

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/millrace/millrace/connectors"
	"github.com/millrace/millrace/core/conf"
)

// source is where a configuration comes from: what agent and validate have in common.
type source struct {
	files           []string // paths, and URLs without what is secret in them
	uris            []string
	user, password  string
	logins          map[string]*url.Userinfo // by URL
	name            string
	strict, lenient bool
	offline         bool
	sys             map[string]string
	read            func(name string) ([]byte, error) // nil: the file system
	never           bool                              // not lenient, whatever the program is called
}

func (s *source) isLenient(p *Program) bool {
	return !s.never && (s.lenient || p.asFlume() && !s.strict)
}

func (s *source) flags(f *flags) {
	f.List(&s.files, "conf-file", "f", "FILE", "configuration; a later file overrides an earlier one")
	f.List(&s.uris, "conf-uri", "u", "URI", "configuration instead of files: file, http, https, or classpath for a file below --conf")
	f.String(&s.user, "conf-user", "user", "NAME", "user for a configuration over HTTP")
	f.String(&s.password, "conf-password", "pwd", "PASSWORD", "and the password; better given in the environment")
	f.String(&s.name, "name", "n", "NAME", "the agent's name; may be left out where the configuration has one agent")
	f.Bool(&s.strict, "strict", "", "make errors of warnings")
	f.Bool(&s.lenient, "lenient", "", "as Flume: leave faulty components out and start the rest; implied by the name flume-ng")
}

// options makes the options to load the configuration, and sets the connectors' defaults, which come from the same places.
func (s *source) options(p *Program) conf.Options {
	env := func(name string) string {
		v, _ := p.Env(name)
		return v
	}
	connectors.SetDefaults(func(name string) string { return s.sys[name] }, env)
	return conf.Options{
		Files: s.files, Sys: s.sys, Env: p.Env, Strict: s.strict, Offline: s.offline, ReadFile: s.read, Lenient: s.isLenient(p),
	}
}

// load reads the configuration and builds one agent of it; nil where there is an error among the faults.
func (s *source) load(p *Program) (*conf.Agent, conf.Faults) {
	o := s.options(p)
	text, faults := conf.Load(o)
	if text == nil {
		return nil, faults
	}
	name := s.name
	if name == "" {
		names := text.AgentNames()
		if len(names) != 1 {
			hint := "use --name"
			if len(names) > 0 {
				hint += " with one of " + strings.Join(names, ", ")
			}
			return nil, append(faults, conf.Fault{
				Pos: conf.Pos{File: s.files[0]}, Severity: conf.Error,
				Text: "no agent was named", Hint: hint,
			})
		}
		name = names[0]
	}
	agent, more := text.Build(name, Catalog(), o)
	return agent, append(faults, more...)
}

// faultLine is a fault as compilers write theirs: file:line: error: key: what is wrong.
func faultLine(f conf.Fault) string {
	pos := f.Pos.String()
	f.Pos = conf.Pos{}
	return strings.TrimPrefix(pos+": ", ": ") + f.Severity.String() + ": " + f.String()
}

// logFaults logs each fault, errors last so that they end the log of a start that fails.
func logFaults(log *slog.Logger, faults conf.Faults) {
	sorted := slices.Clone(faults)
	slices.SortStableFunc(sorted, func(a, b conf.Fault) int { return cmp.Compare(a.Severity, b.Severity) })
	for _, f := range sorted {
		level := slog.LevelWarn
		if f.Severity == conf.Error {
			level = slog.LevelError
		}
		attrs := []any{"at", f.Pos.String(), "key", f.Key}
		if f.Hint != "" {
			attrs = append(attrs, "hint", f.Hint)
		}
		log.Log(context.Background(), level, "configuration: "+f.Text, attrs...)
	}
}

func printFaults(w io.Writer, faults conf.Faults) {
	for _, f := range faults {
		fmt.Fprintln(w, faultLine(f))
	}
}

// verdict is what validate says, in JSON.
type verdict struct {
	Valid    bool        `json:"valid"`
	Agents   []string    `json:"agents"`
	Errors   int         `json:"errors"`
	Warnings int         `json:"warnings"`
	Faults   conf.Faults `json:"faults"`
	Notices  []notice    `json:"notices"`
}

type notice struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Key  string `json:"key"`
	Text string `json:"message"`
}

func (p *Program) validate(args []string) int {
	args, sys, _ := javaArgs(args)
	s := source{sys: sys}
	f := newFlags(p, "validate")
	s.flags(f)
	f.Bool(&s.offline, "offline", "", "do not ask config filters: values that come from them are not checked")
	format := "text"
	f.OneOf(&format, "format", "form of the answer", "text", "json")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if f.set.NArg() > 0 { // validate FILE... is what one types
		s.files = append(s.files, f.set.Args()...)
	}
	if err := s.places(""); err != nil {
		return f.wrong(err.Error())
	}
	if s.strict && s.lenient {
		return f.wrong("--strict and --lenient exclude each other")
	}
	if len(s.files) == 0 {
		return f.wrong("no configuration was named: use --conf-file")
	}
	s.read = takeSnapshot(s.files, s.logins).read
	v, parts := s.verdict(p)
	if format == "json" {
		e := json.NewEncoder(p.Stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			p.complain(err.Error())
			return exitFailed
		}
	} else {
		v.print(p.Stdout, s.files, parts)
	}
	if !v.Valid {
		return exitConfig
	}
	return exitOK
}

// verdict builds the agents that are asked for, all of them if none is named. parts describes the good ones.
func (s *source) verdict(p *Program) (v verdict, parts []string) {
	o := s.options(p)
	text, faults := conf.Load(o)
	if text != nil {
		v.Agents = text.AgentNames()
		if s.name != "" || len(v.Agents) == 0 {
			v.Agents = []string{s.name}
		}
	}
	seen := make(map[conf.Fault]bool) // what belongs to no agent is told of each
	for _, name := range v.Agents {
		agent, more := text.Build(name, Catalog(), o)
		for _, f := range more {
			if !seen[f] {
				seen[f] = true
				faults = append(faults, f)
			}
		}
		if agent == nil {
			continue
		}
		for _, n := range agent.Notices {
			v.Notices = append(v.Notices, notice{n.Pos.File, n.Pos.Line, n.Key, n.Text})
		}
		parts = append(parts, fmt.Sprintf("agent %s: %s, %s, %s", name,
			count(len(agent.Sources), "source"), count(len(agent.Channels), "channel"), count(len(agent.Sinks), "sink")))
	}
	if s.name == "" && len(v.Agents) == 1 && v.Agents[0] == "" {
		v.Agents = nil
	}
	faults.Sort(s.files)
	v.Valid, v.Faults = !faults.HasErrors(), faults
	for _, f := range faults {
		if f.Severity == conf.Error {
			v.Errors++
		} else {
			v.Warnings++
		}
	}
	// Readers of the JSON get lists, never null.
	v.Agents, v.Faults, v.Notices = or(v.Agents), or(v.Faults), or(v.Notices)
	return v, parts
}

func or[S ~[]T, T any](s S) S {
	if s == nil {
		return S{}
	}
	return s
}

func (v *verdict) print(w io.Writer, files, parts []string) {
	printFaults(w, v.Faults)
	for _, n := range v.Notices {
		fmt.Fprintf(w, "%s: note: %s: has no effect: %s\n", conf.Pos{File: n.File, Line: n.Line}, n.Key, n.Text)
	}
	for _, part := range parts {
		fmt.Fprintln(w, part)
	}
	word := "valid"
	if !v.Valid {
		word = "not valid"
	}
	fmt.Fprintf(w, "%s: %s; %s, %s\n", strings.Join(files, ", "), word, count(v.Errors, "error"), count(v.Warnings, "warning"))
}

func count(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
