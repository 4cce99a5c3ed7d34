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
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// defaultDrain is below the 30 seconds that Kubernetes grants a pod.
const defaultDrain = 25 * time.Second

// defaultPoll is Flume's.
const defaultPoll = 30 * time.Second

// agentOptions are the command line of agent.
type agentOptions struct {
	source
	adminAddr, adminToken string
	adminGiven            bool // the address was chosen, not left to the default
	adminTLS              adminTLS
	tap                   tapOptions
	dir                   string
	drain                 time.Duration
	logForm               string
	logLevel              slog.Level
	validateOnly          bool
	monitor               monitorOptions
	ignored               []string // Java's flags
	overridden            []string // options that a variable goes before
	confDir               string
	noReload              bool
	poll                  time.Duration
}

const (
	noKeeper   = "configurations are not read from ZooKeeper: put the node's text into a file, or serve it for --conf-uri http://..."
	noBackup   = "no copy of the configuration is kept: give --conf-file a file of your own"
	noProvider = "Java classes are not loaded: use --conf-file"
)

// parseAgent reads the command line of agent.
func (p *Program) parseAgent(args []string) (o *agentOptions, code int, ok bool) {
	args, sys, ignored := javaArgs(args)
	o = &agentOptions{
		source: source{sys: sys}, ignored: ignored, adminAddr: defaultAdmin, drain: defaultDrain, logForm: "text",
	}
	f := newFlags(p, "agent")
	f.service = true
	o.source.flags(f)
	f.String(&o.confDir, "conf", "c", "DIR", "Flume's configuration directory; nothing in it is used but by --conf-uri classpath:")
	f.Bool(&o.noReload, "no-reload-conf", "", "do not read a changed configuration again, nor at SIGHUP")
	f.Seconds(&o.poll, "poll-interval", "i", "how often to look at the configuration, besides whenever the system tells of a change; 0: as by default (default 30)")
	f.String(&o.adminAddr, "admin", "", "ADDR", "where the admin server listens, off for nowhere (default "+defaultAdmin+")")
	f.String(&o.adminToken, "admin-token", "", "TOKEN", "bearer token for status pages from beyond loopback; better given in the environment")
	o.adminTLS.flags(f)
	o.tap.flags(f)
	f.String(&o.dir, "state-dir", "", "DIR", "where components keep files that have no place of their own")
	f.Duration(&o.drain, "drain-timeout", "", "how long to go on delivering after SIGTERM (default 25s)")
	f.OneOf(&o.logForm, "log", "form of the log on standard error (default text)", "text", "json")
	f.add(valueFunc(func(text string) error { return o.logLevel.UnmarshalText([]byte(text)) }),
		"log-level", "", "LEVEL", "debug, info, warn or error (default info)")
	f.Bool(&o.validateOnly, "validate-only", "", "check the configuration and end")
	f.Refuse(noKeeper, "zkConnString", "z", "zkBasePath", "p")
	f.Refuse(noBackup, "backup-directory", "b")
	f.Refuse(noProvider, "auth-provider", "a", "conf-provider", "prov", "classpath", "C", "plugins-path")
	if code, ok := f.parse(args); !ok {
		return nil, code, false
	}
	if code, ok := f.rest(); !ok {
		return nil, code, false
	}
	_, o.adminGiven = f.given["admin"]
	o.overridden = f.overridden
	var err error
	if o.poll == 0 {
		o.poll = defaultPoll
		if slices.ContainsFunc(o.uris, isWeb) {
			o.poll = webPoll
		}
	}
	o.monitor, err = readMonitor(sys)
	if err == nil {
		err = o.places(o.confDir)
	}
	switch {
	case err != nil:
	case len(o.files) == 0:
		err = errors.New("no configuration was named: use --conf-file or --conf-uri")
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
	text := takeSnapshot(o.files, o.logins)
	o.read = text.read
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
	if err := p.serve(o, c, faults, text, log.With("agent", c.Name)); err != nil {
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
	for _, name := range o.overridden {
		log.Info("option is overridden by the environment", "option", dashed(name), "variable", variable(name))
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
func (p *Program) serve(o *agentOptions, c *conf.Agent, faults conf.Faults, text snapshot, log *slog.Logger) error {
	tune(p.Env, log)
	var pool sockets
	a := core.NewAgent(c, core.World{
		Log: log, FS: filesystem(), Dir: o.dir, Now: time.Now, Listen: pool.Listen, ListenPacket: pool.ListenPacket,
		DrainTimeout: o.drain, RetryOpen: o.isLenient(p), Handover: pool.Handover, Catalog: Catalog(),
	})
	r := &reloader{p: p, o: o, name: c.Name, a: a, log: log, tried: text, running: c, faults: faults, faulty: o.isLenient(p) && o.faulty(p, c.Name)}
	r.status.Enabled = !o.noReload
	d := newDrainState(c.Name)
	admin, err := startAdmin(o, a, r, d, log)
	if err != nil {
		return err
	}
	defer admin.stop()
	defer o.monitor.start(a, r, log).stop()

	ctx, cut, asked, stop := p.signals(d, log)
	defer stop()
	log.Info("starting", "version", versionOf().short(), "files", o.files,
		"sources", len(c.Sources), "channels", len(c.Channels), "sinks", len(c.Sinks), "admin", admin.address())
	watching, unwatch := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	if o.noReload {
		watcher.Go(func() { r.refuse(watching, asked) })
	} else {
		watcher.Go(func() { r.run(watching, asked) })
	}
	err = a.Run(ctx, cut)
	unwatch()
	watcher.Wait()
	if err != nil {
		if ctx.Err() != nil { // told to stop before it had started: nothing was taken in
			log.Warn("stopped before everything was open", "error", err)
			return nil
		}
		return err
	}
	d.end(a.Left())
	err = p.report(c.Name, a.Left())
	d.wait()
	return err
}

// signals turns signals into contexts: ctx ends at the first, cut at the second.
// SIGHUP is none of these: asked tells of it. What /drainz is asked begins a drain as well, after
// which the first signal only lets the process end.
func (p *Program) signals(d *drainState, log *slog.Logger) (ctx, cut context.Context, asked <-chan struct{}, stop func()) {
	ctx, drain := context.WithCancel(context.Background())
	cut, cutShort := context.WithCancel(context.Background())
	over, ended, hangup := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(ended)
		for draining := false; ; {
			select {
			case s := <-p.Signals:
				if s == syscall.SIGHUP {
					select {
					case hangup <- struct{}{}:
					default: // asked already
					}
					continue
				}
				if d.release() {
					continue
				}
				if !draining {
					log.Info("signal: draining; a second one stops at once", "signal", s.String())
					draining = true
					drain()
					continue
				}
				log.Warn("signal: the drain is cut short", "signal", s.String())
				cutShort()
			case <-d.asked:
				if !draining {
					log.Info("asked to drain; the process stays until there is a signal")
					draining = true
					d.hold()
					drain()
				}
			case <-over:
				return
			}
		}
	}()
	return ctx, cut, hangup, func() {
		close(over)
		<-ended
		drain()
		cutShort()
	}
}

// report writes the last line of an agent: JSON whatever the log's form, for whoever picks up after it.
func (p *Program) report(agent string, left []core.Left) error {
	line := struct {
		Time  string `json:"time"`
		Level string `json:"level"`
		drainReport
	}{time.Now().UTC().Format(time.RFC3339Nano), "INFO", reportOf("stopped", agent, left)}
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
