package sidecar

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/connectors/tail/tailcmd"
)

// Exit codes; package documentation says when.
const (
	exitOK     = 0
	exitFailed = 1
	exitConfig = 2
	exitUsage  = 64
)

// Program is one run of the program: all that it knows of its caller.
type Program struct {
	Args           []string // Args[0] is the name it was called by
	Env            func(name string) (string, bool)
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // the first drains, the second stops; SIGHUP reloads
	deaf           bool             // the system tells of no changed files: for tests
}

// Main runs the program of this process and does not return.
func Main() {
	signals := make(chan os.Signal, 2)
	if len(os.Args) > 1 && (isAgent(os.Args[1]) || os.Args[1] == "webhook") { // everything else has nothing to drain, and ends as any process does
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	}
	os.Exit(Run(Program{Args: os.Args, Env: os.LookupEnv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals}))
}

// isAgent tells whether a word is the command that runs an agent; node is what
// Flume called it in its first days.
func isAgent(name string) bool { return name == "agent" || name == "node" }

// command is one word after the program's name.
type command struct {
	name, doc string
	run       func(p *Program, args []string) int
}

// commands lists what the program can do, in the order that help shows.
func commands() []command {
	return []command{
		{"agent", "run an agent", (*Program).agent},
		{"validate", "check a configuration, every fault with file and line", (*Program).validate},
		{"test", "run example events through a configuration and check where they go: test FILE", (*Program).test},
		{"help", "list the component types, or show the reference of one: help source taildir", (*Program).help},
		{"schema", "print the JSON schema of a configuration: every type with its keys", (*Program).schema},
		{"inject", "add the sidecar to the workloads of a Kubernetes manifest: inject -f FILE --config FILE", (*Program).inject},
		{"webhook", "add the sidecar to pods while Kubernetes admits them: a mutating admission webhook", (*Program).webhook},
		{"top", "show what a running agent does, anew every two seconds", (*Program).top},
		{"tap", "show a sample of the events that pass in a running agent, as JSON: tap SOURCE:CHANNEL", (*Program).tapCommand},
		{"drain", "have a running agent deliver what it holds, and wait: for a preStop hook", (*Program).drainCommand},
		{"healthcheck", "ask a running agent whether it is well", (*Program).healthcheck},
		{"channel", "look into a file channel, or bring Flume's along: channel fsck|cat|export|import", (*Program).channel},
		{"avro-client", "send the lines of files, or of standard input, to an agent's avro source", (*Program).avroClient},
		{"docs", "write the reference of all types into a source tree", (*Program).docs},
		{"tail", "follow files as tail does, for images without it: tail -F FILE", (*Program).tail},
		{"sleep", "wait, for images without it: what the preStop hook of a classic sidecar runs: sleep 10s", (*Program).sleep},
		{"version", "say what this is", (*Program).version},
	}
}

// laterCommands are Flume's that this version lacks.
var laterCommands = map[string]string{
	"tool": "Flume's integrity tool has its successor in: channel fsck",
}

// Run does what p.Args say and returns the exit code.
func Run(p Program) int {
	if len(p.Args) < 2 {
		p.usage(p.Stderr)
		return exitUsage
	}
	name, args := p.Args[1], p.Args[2:]
	switch {
	case name == "-h" || name == "-help" || name == "--help":
		p.usage(p.Stdout)
		return exitOK
	case name == "-version" || name == "--version":
		name = "version"
	case isAgent(name):
		name = "agent"
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		if why, ok := laterCommands[name]; ok {
			p.complain(why)
			return exitUsage
		}
		p.complain(fmt.Sprintf("there is no command %q", name))
		p.usage(p.Stderr)
		return exitUsage
	}
	return all[i].run(&p, args)
}

// tail is what the exec source runs, as a process of its own, where there is no tail.
func (p *Program) tail(args []string) int { return tailcmd.Main(args, p.Stdout, p.Stderr) }

// called is the name of the program as its caller wrote it.
func (p *Program) called() string {
	if len(p.Args) == 0 {
		return "millrace"
	}
	return filepath.Base(p.Args[0])
}

// asFlume tells whether the program stands in for Flume's own script.
func (p *Program) asFlume() bool { return p.called() == "flume-ng" }

func (p *Program) complain(text string) { fmt.Fprintf(p.Stderr, "%s: %s\n", p.called(), text) }

func (p *Program) usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s COMMAND [OPTION...]\n\nCommands:\n", p.called())
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.doc)
	}
	fmt.Fprintf(w, "\n%s COMMAND --help shows the options of one.\n", p.called())
	fmt.Fprint(w, strings.TrimPrefix(exitCodes, "\n"))
}

const exitCodes = `
Exit codes: 0 all is well, 1 failed while running, 2 errors in the configuration, 64 errors in the command line.
`

// sleep is what a preStop hook runs, where there is no other program to do so.
func (p *Program) sleep(args []string) int {
	if len(args) == 1 {
		if d, err := time.ParseDuration(args[0]); err == nil && d >= 0 {
			time.Sleep(d)
			return exitOK
		}
	}
	p.complain("sleep: give a duration such as 10s")
	return exitUsage
}
