package accept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
)

const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Each hands every connection to start, which returns at once, until ctx ends;
// whoever ends ctx closes ln then. An error is why there are no more connections
// before that. Other failures pass (too many open files, a peer that is gone):
// they are said, and others are served meanwhile.
func Each(ctx context.Context, ln net.Listener, env core.Env, start func(net.Conn)) error {
	var log sample.Log
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			start(c) // also one that came at the end: it may have written already
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connections: %w", err)
		default:
			pause = min(max(2*pause, firstPause), lastPause)
			log.Say(env.Log, env.Now(), slog.LevelWarn, "accept failed, trying again", slog.Any("error", err))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}
