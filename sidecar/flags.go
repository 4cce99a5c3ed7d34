package sidecar

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// flags are the options of one command. Each may be given with one dash or two,
// or by the environment: --conf-file is MILLRACE_CONF_FILE.
type flags struct {
	p       *Program
	command string
	set     *flag.FlagSet
	list    []option
	refused []string          // sentences on options that are Flume's and not in this version
	given   map[string]string // by option, what it was last set to
	// service: the environment goes before the command line, which is an image's where the
	// environment is its user's. Otherwise somebody has typed the line, and it goes before.
	service    bool
	overridden []string // options of the line that a variable goes before, saying something else
}

// option is one option as usage shows it.
type option struct{ name, short, arg, doc string }

func newFlags(p *Program, command string) *flags {
	f := &flags{p: p, command: command, set: flag.NewFlagSet(command, flag.ContinueOnError), given: map[string]string{}}
	f.set.SetOutput(io.Discard)
	return f
}

// add registers an option under its names; arg is empty for a switch.
func (f *flags) add(v flag.Value, name, short, arg, doc string) {
	f.list = append(f.list, option{name, short, arg, doc})
	noted := notedValue{v, func(text string) { f.given[name] = text }}
	f.set.Var(noted, name, doc)
	if short != "" {
		f.set.Var(noted, short, doc)
	}
}

// notedValue remembers that it was set.
type notedValue struct {
	flag.Value
	note func(text string)
}

func (v notedValue) Set(text string) error {
	v.note(text)
	return v.Value.Set(text)
}

// IsBoolFlag is how package flag learns of a switch.
func (v notedValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// String, Bool and Duration are those of package flag, under a long and a short name.

func (f *flags) String(p *string, name, short, arg, doc string) {
	f.add(valueFunc(func(text string) error { *p = text; return nil }), name, short, arg, doc)
}

func (f *flags) Bool(p *bool, name, short, doc string) {
	var own flag.FlagSet
	own.BoolVar(p, name, *p, doc)
	f.add(own.Lookup(name).Value, name, short, "", doc)
}

func (f *flags) Duration(p *time.Duration, name, short, doc string) {
	f.add(valueFunc(func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return errors.New("is not a duration such as 25s")
		}
		*p = d
		return nil
	}), name, short, "TIME", doc)
}

// Seconds is a time as Flume writes it, a number of seconds, or as Duration does.
func (f *flags) Seconds(p *time.Duration, name, short, doc string) {
	f.add(valueFunc(func(text string) error {
		d, err := time.ParseDuration(text)
		if n, e := strconv.Atoi(text); e == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil || d < 0 || d > longest {
			return errors.New("is not a number of seconds")
		}
		*p = d
		return nil
	}), name, short, "SECONDS", doc)
}

const longest = math.MaxInt32 * time.Second // Java's

// OneOf is a word out of a few.
func (f *flags) OneOf(p *string, name, doc string, words ...string) {
	f.add(valueFunc(func(text string) error {
		for _, w := range words {
			if text == w {
				*p = text
				return nil
			}
		}
		return errors.New("is not one of " + strings.Join(words, ", "))
	}), name, "", strings.Join(words, "|"), doc)
}

// List is an option that may be repeated; in the environment its values are separated by colons.
func (f *flags) List(p *[]string, name, short, arg, doc string) {
	f.add(&listValue{p: p}, name, short, arg, doc+" (may be repeated)")
}

type listValue struct {
	p     *[]string
	stale bool // what comes next takes the place of what is there
}

func (v *listValue) String() string { return "" }

func (v *listValue) Set(text string) error {
	if v.stale {
		*v.p, v.stale = nil, false
	}
	*v.p = append(*v.p, text)
	return nil
}

// Refuse is an option that Flume has and this version has not. It takes a value, and its use is an error.
func (f *flags) Refuse(sentence string, names ...string) {
	for _, name := range names {
		f.set.Var(valueFunc(func(string) error {
			f.refused = append(f.refused, dashed(name)+": "+sentence)
			return nil
		}), name, "")
	}
}

type valueFunc func(string) error

func (v valueFunc) String() string        { return "" }
func (v valueFunc) Set(text string) error { return v(text) }

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func variable(name string) string {
	return "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// parse reads the environment and args. On ok the command goes on; otherwise code is the exit code, and all is said.
func (f *flags) parse(args []string) (code int, ok bool) {
	if !f.service {
		if err := f.environment(); err != nil {
			return f.wrong(err.Error()), false
		}
	}
	err := f.set.Parse(args)
	if err == nil && f.service {
		if err := f.environment(); err != nil {
			return f.wrong(err.Error()), false
		}
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		f.usage(f.p.Stdout)
		return exitOK, false
	case err != nil:
		return f.wrong(strings.Replace(err.Error(), "flag provided but not defined: ", "there is no option ", 1)), false
	}
	if len(f.refused) > 0 {
		for _, text := range f.refused {
			f.p.complain(f.command + ": " + text)
		}
		return exitUsage, false
	}
	return exitOK, true
}

// environment sets options from MILLRACE_ variables. Variables that name no option are other people's.
func (f *flags) environment() error {
	for _, o := range f.list {
		text, has := f.p.Env(variable(o.name))
		if !has || text == "" {
			continue
		}
		values := []string{text}
		list, isList := f.set.Lookup(o.name).Value.(notedValue).Value.(*listValue)
		if isList {
			values, list.stale = strings.Split(text, ":"), true
		}
		if line, given := f.given[o.name]; given && line != text {
			f.overridden = append(f.overridden, o.name)
		}
		for _, v := range values {
			if err := f.set.Set(o.name, v); err != nil {
				return fmt.Errorf("%s: %q %w", variable(o.name), v, err)
			}
		}
		if isList {
			list.stale = true
		}
	}
	return nil
}

// rest refuses arguments that are no options.
func (f *flags) rest() (code int, ok bool) {
	if f.set.NArg() > 0 {
		return f.wrong(fmt.Sprintf("%q is not an option", f.set.Arg(0))), false
	}
	return exitOK, true
}

// wrong says what is wrong with the command line.
func (f *flags) wrong(text string) int {
	f.p.complain(f.command + ": " + text)
	fmt.Fprintf(f.p.Stderr, "%s %s --help shows the options\n", f.p.called(), f.command)
	return exitUsage
}

func (f *flags) usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s %s [OPTION...]\n\nOptions (one dash or two), each with its environment variable:\n", f.p.called(), f.command)
	for _, o := range f.list {
		head := dashed(o.name)
		if o.short != "" {
			head = dashed(o.short) + ", " + head
		}
		if o.arg != "" {
			head += " " + o.arg
		}
		fmt.Fprintf(w, "  %-34s %s [%s]\n", head, o.doc, variable(o.name))
	}
	fmt.Fprint(w, exitCodes)
}

// javaArgs takes what was meant for a Java virtual machine out of args: -Dkey=value,
// anywhere on the line, and the flags that have no meaning here.
func javaArgs(args []string) (rest []string, sys map[string]string, ignored []string) {
	sys = make(map[string]string)
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "-D") && len(a) > 2:
			name, value, _ := strings.Cut(a[2:], "=")
			sys[name] = value
		case strings.HasPrefix(a, "-X"), strings.HasPrefix(a, "-agentlib"), strings.HasPrefix(a, "-agentpath"),
			strings.HasPrefix(a, "-javaagent"):
			ignored = append(ignored, a)
		default:
			rest = append(rest, a)
		}
	}
	return rest, sys, ignored
}
