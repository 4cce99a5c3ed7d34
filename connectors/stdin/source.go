package stdin

import (
	"context"
	"fmt"
	"os"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "stdin", Doc: "Makes an event of each line of the standard input.",
	New: func() core.Source { return newSource(os.Stdin) },
}

type source struct {
	pipe lines.Pipe
	file *os.File
	env  core.Env
}

func newSource(f *os.File) *source { return &source{file: f} }

// reading is held by the source that reads the standard input.
var reading = make(chan struct{}, 1)

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) { s.pipe.Keys(k) }

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	s.env = env
	s.pipe.Open(env)
	return nil
}

// Run implements core.Source. It returns nil at the end of the input.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	select {
	case reading <- struct{}{}:
	default:
		s.env.Log.Warn("standard input is read by another source, waiting for its end")
		select {
		case reading <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
	}
	defer func() { <-reading }()
	in, err := newInput(s.file)
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	late, cancel := core.LateContext(ctx)
	defer cancel()
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		in.stop()
	})
	err = s.pipe.Read(late, in, out)
	if !unwatch() {
		<-stopped
	}
	in.close()
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		s.env.Log.Info("end of standard input")
	}
	return err
}

// Close implements core.Source.
func (s *source) Close() error { return nil }
