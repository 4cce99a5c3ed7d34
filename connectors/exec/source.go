package exec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/connectors/internal/pause"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "exec", Doc: "Runs a command; each line that it prints is an event.",
	Aliases: []string{"org.apache.flume.source.ExecSource"},
	New:     func() core.Source { return newSource() },
}

type source struct {
	command, shell string
	restart        bool
	throttle       time.Duration
	logErr         bool
	pipe           lines.Pipe
	builtinTail    string

	env     core.Env
	said    [3]sample.Log                // of started, ended well, ended badly: a command may be restarted often
	program func() (string, error)       // this binary
	look    func(string) (string, error) // finds a command
}

func newSource() *source { return &source{program: os.Executable, look: exec.LookPath} }

// Values of builtinTail.
const (
	auto   = "auto"
	always = "always"
	never  = "never"
)

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.String(&s.command, "command", "", "The command. Without shell it is split at blanks, with no quoting, globbing or variables.").Required()
	k.String(&s.shell, "shell", "", "A shell that gets the command as one argument, such as /bin/sh -c.")
	k.Bool(&s.restart, "restart", false, "Run the command again when it has ended.")
	k.Millis(&s.throttle, "restartThrottle", 10*time.Second, "How long to wait before that.").Must(conf.Min(0))
	k.Bool(&s.logErr, "logStdErr", false, "Log what the command prints to standard error.")
	s.pipe.Keys(k)
	k.String(&s.builtinTail, "builtinTail", auto, "Run the command tail as part of this program: where there is no other (auto), always, or never.").Must(conf.OneOf(auto, always, never)).Since("1.0")
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	s.env = env
	s.pipe.Open(env)
	return nil
}

// Close implements core.Source.
func (s *source) Close() error { return nil }

// argv is what to run.
func (s *source) argv() ([]string, error) {
	if s.shell != "" {
		return append(strings.Fields(s.shell), s.command), nil
	}
	argv := strings.Fields(s.command)
	if len(argv) == 0 {
		return nil, errors.New("the command is empty")
	}
	if filepath.Base(argv[0]) != "tail" || s.builtinTail == never {
		return argv, nil
	}
	if s.builtinTail == auto {
		if _, err := s.look(argv[0]); err == nil {
			return argv, nil
		}
	}
	self, err := s.program()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	return append([]string{self, "tail"}, argv[1:]...), nil
}

// Run implements core.Source.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	for {
		err := s.once(ctx, late, out)
		if ctx.Err() != nil {
			return nil
		}
		var sent *sendError
		switch {
		case errors.As(err, &sent):
			return err // the channels are closing
		case !s.restart:
			return err
		case err != nil:
			s.env.Log.Error("command cannot run, will try again", "error", err, "pause", s.throttle)
		}
		pause.For(ctx, s.throttle)
	}
}

// sendError is an error of the outlet.
type sendError struct{ error }

func (e *sendError) Unwrap() error { return e.error }

// once runs the command to its end, or until ctx ends.
func (s *source) once(ctx, late context.Context, out core.Outlet) error {
	argv, err := s.argv()
	if err != nil {
		return err
	}
	p, err := start(argv)
	if err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	s.said[0].Say(s.env.Log, s.env.Now(), slog.LevelInfo, "command started", slog.String("command", s.command), slog.Int("pid", p.cmd.Process.Pid))
	run, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { p.endWith(run, late) })
	said := ""
	helpers.Go(func() { said = s.readErr(p) })

	err = s.pipe.Read(late, p, out)
	if err != nil {
		err = &sendError{err}
		stop()
	}
	status := p.wait()
	stop()
	helpers.Wait()
	p.close()
	if err == nil && ctx.Err() == nil {
		if status == nil {
			s.said[1].Say(s.env.Log, s.env.Now(), slog.LevelInfo, "command ended", slog.String("command", s.command))
		} else {
			s.said[2].Say(s.env.Log, s.env.Now(), slog.LevelWarn, "command ended", slog.String("command", s.command), slog.String("status", status.Error()), slog.String("said", said))
		}
	}
	return err
}
