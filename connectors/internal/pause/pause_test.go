package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		for _, c := range []struct {
			d, at time.Duration // how long, and when it is over since the first
			whole bool
		}{{3 * time.Second, 3 * time.Second, true}, {0, 3 * time.Second, true}, {3 * time.Second, 5 * time.Second, false}, {0, 5 * time.Second, false}} {
			if whole := For(ctx, c.d); whole != c.whole || time.Since(begun) != c.at {
				t.Errorf("a pause of %v is over at %v, %v; want %v, %v", c.d, time.Since(begun), whole, c.at, c.whole)
			}
		}
	})
}
