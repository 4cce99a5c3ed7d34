// Package pause waits a while, unless something ends first.
package pause

import (
	"context"
	"time"
)

// For waits. False: ctx has ended, before or meanwhile.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
