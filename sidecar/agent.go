package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// defaultDrain is below the 30 seconds that Kubernetes grants a pod.
const defaultDrain = 25 * time.Second

// agentOptions are the command line of agent.
type agentOptions struct {
	source
	adminAddr, adminToken string
	adminGiven            bool // the address was chosen, not left to the default
	dir                   string
	drain                 time.Duration
	logForm               string
	logLevel              slog.Level
	validateOnly          bool
	monitor               monitorOptions
	ignored               []string // Java's flags
	confDir               string
}

const (
	noReload   = "a changed configuration is not read again in this version: leave it out"
	onlyFiles  = "configurations are read from files in this version: use --conf-file"
	noProvider = "Java classes are not loaded: use --conf-file"
)

// parseAgent reads the command line of agent.
func (p *Program) parseAgent(args []string) (o *agentOptions, code int, ok bool) {
	args, sys, ignored := javaArgs(args)
	o = &agentOptions{
		source: source{sys: sys}, ignored: ignored, adminAddr: defaultAdmin, drain: defaultDrain, logForm: "text",
	}
	f := newFlags(p, "agent")
	o.source.flags(f)
	f.String(&o.confDir, "conf", "c", "DIR", "Flume's configuration directory; nothing in it is used")
	var noReloadConf bool
	f.Bool(&noReloadConf, "no-reload-conf", "", "do not read a changed configuration again, which this version never does")
	f.String(&o.adminAddr, "admin", "", "ADDR", "where the admin server listens, off for nowhere (default "+defaultAdmin+")")
	f.String(&o.adminToken, "admin-token", "", "TOKEN", "bearer token for status pages from beyond loopback; better given in the environment")
	f.String(&o.dir, "state-dir", "", "DIR", "where components keep files that have no place of their own")
	f.Duration(&o.drain, "drain-timeout", "", "how long to go on delivering after SIGTERM (default 25s)")
	f.OneOf(&o.logForm, "log", "form of the log on standard error (default text)", "text", "json")
	f.add(valueFunc(func(text string) error { return o.logLevel.UnmarshalText([]byte(text)) }),
		"log-level", "", "LEVEL", "debug, info, warn or error (default info)")
	f.Bool(&o.validateOnly, "validate-only", "", "check the configuration and end")
	f.Refuse(noReload, "poll-interval", "i")
	f.Refuse(onlyFiles, "backup-directory", "b", "conf-uri", "u", "zkConnString", "z", "zkBasePath", "p", "conf-user", "user", "conf-password", "pwd")
	f.Refuse(noProvider, "auth-provider", "a", "conf-provider", "prov", "classpath", "C", "plugins-path")
	if code, ok := f.parse(args); !ok {
		return nil, code, false
	}
	if code, ok := f.rest(); !ok {
		return nil, code, false
	}
	o.adminGiven = f.given["admin"]
	var err error
	o.monitor, err = readMonitor(sys)
	switch {
	case len(o.files) == 0:
		err = errors.New("no configuration was named: use --conf-file")
	case o.strict && o.lenient:
		err = errors.New("--strict and --lenient exclude each other")
	}
	if err != nil {
		return nil, f.wrong(err.Error()), false
	}
	return o, exitOK, true
}

func (p *Program) agent(args []string) int {
	o, code, ok := p.parseAgent(args)
	if !ok {
		return code
	}
	log := newLog(p.Stderr, o.logForm, o.logLevel)
	c, faults := o.load(p)
	if o.logForm == "json" {
		logFaults(log, faults)
	} else {
		printFaults(p.Stderr, faults)
	}
	if c == nil {
		return exitConfig
	}
	if o.validateOnly {
		return exitOK
	}
	o.sayNotices(log, c)
	if err := p.serve(o, c, log.With("agent", c.Name)); err != nil {
		log.Error("agent failed", "agent", c.Name, "error", err)
		return exitFailed
	}
	return exitOK
}

// sayNotices tells once what was given and has no effect.
func (o *agentOptions) sayNotices(log *slog.Logger, c *conf.Agent) {
	for _, n := range c.Notices {
		log.Info("key has no effect", "at", n.Pos.String(), "key", n.Key, "reason", n.Text)
	}
	for _, a := range o.ignored {
		log.Info("option has no effect: there is no Java here", "option", a)
	}
	if o.confDir != "" {
		if script := filepath.Join(o.confDir, "flume-env.sh"); exists(script) {
			log.Info("flume-env.sh is not read; options in it belong on the command line", "file", script)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// errEventsLost says that the agent ended with events in a channel that does not keep them.
var errEventsLost = errors.New("events were left in a channel that does not keep them")

// serve runs the agent and its servers until a signal, and says what was left.
func (p *Program) serve(o *agentOptions, c *conf.Agent, log *slog.Logger) error {
	tune(p.Env, log)
	a := core.NewAgent(c, core.World{
		Log: log, FS: filesystem(), Dir: o.dir, Now: time.Now, Listen: listen, ListenPacket: listenPacket,
		DrainTimeout: o.drain, RetryOpen: o.lenient || p.asFlume() && !o.strict,
	})
	admin, err := startAdmin(o, a, log)
	if err != nil {
		return err
	}
	defer admin.stop()
	defer o.monitor.start(a, log).stop()

	ctx, cut, stop := p.signals(log)
	defer stop()
	log.Info("starting", "version", versionOf().short(), "files", o.files,
		"sources", len(c.Sources), "channels", len(c.Channels), "sinks", len(c.Sinks), "admin", admin.address())
	if err := a.Run(ctx, cut); err != nil {
		if ctx.Err() != nil { // told to stop before it had started: nothing was taken in
			log.Warn("stopped before everything was open", "error", err)
			return nil
		}
		return err
	}
	return p.report(c.Name, a.Left())
}

// signals turns signals into contexts: ctx ends at the first, cut at the second.
func (p *Program) signals(log *slog.Logger) (ctx, cut context.Context, stop func()) {
	ctx, drain := context.WithCancel(context.Background())
	cut, cutShort := context.WithCancel(context.Background())
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case s := <-p.Signals:
				if n == 0 {
					log.Info("signal: draining; a second one stops at once", "signal", s.String())
					drain()
					continue
				}
				log.Warn("signal: the drain is cut short", "signal", s.String())
				cutShort()
			case <-over:
				return
			}
		}
	}()
	return ctx, cut, func() {
		close(over)
		<-ended
		drain()
		cutShort()
	}
}

// report writes the last line of an agent: JSON whatever the log's form, for whoever picks up after it.
func (p *Program) report(agent string, left []core.Left) error {
	line := struct {
		Time  string      `json:"time"`
		Level string      `json:"level"`
		Msg   string      `json:"msg"`
		Agent string      `json:"agent"`
		Kept  int         `json:"kept"` // events on disk, delivered after the next start
		Lost  int         `json:"lost"` // events in memory; a source that can read again will
		Left  []core.Left `json:"left"`
	}{Time: time.Now().UTC().Format(time.RFC3339Nano), Level: "INFO", Msg: "stopped", Agent: agent, Left: or(left)}
	for _, l := range left {
		if l.Kept {
			line.Kept += l.Events
		} else {
			line.Lost += l.Events
		}
	}
	if line.Lost > 0 {
		line.Level = "ERROR"
	}
	if err := json.NewEncoder(p.Stderr).Encode(line); err != nil {
		return fmt.Errorf("write last line: %w", err)
	}
	if line.Lost > 0 {
		return errEventsLost
	}
	return nil
}

// newLog makes the log on w.
func newLog(w io.Writer, form string, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if form == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
