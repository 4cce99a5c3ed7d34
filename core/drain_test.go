package core

import (
	"testing"
	"testing/synctest"
	"time"
)

// A sink has the rest of the drain time to close, and a little in any case.
func TestTimeToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &drain{timeout: 20 * time.Second, hard: t.Context()}
		left := func() time.Duration {
			ctx, cancel := d.closing()
			defer cancel()
			end, _ := ctx.Deadline()
			return time.Until(end)
		}
		if n := left(); n != closeGrace {
			t.Errorf("in a reload: %v", n)
		}
		d.begin(time.Now())
		for _, want := range []time.Duration{20 * time.Second, 12 * time.Second, closeGrace, closeGrace} {
			if n := left(); n != want {
				t.Errorf("%v, want %v", n, want)
			}
			time.Sleep(8 * time.Second)
		}
	})
}
