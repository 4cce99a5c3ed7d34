// Package suite is what the conformance suites share: named checks that run as
// subtests or, to prove that a suite can fail, against a broken subject.
package suite

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Check is one named property of a subject.
type Check[S any] struct {
	Name string
	Run  func(t testing.TB, s S)
}

// Run runs every check as a subtest, each watched for goroutines it leaves behind.
func Run[S any](t *testing.T, s S, checks []Check[S]) {
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			t.Cleanup(func() { NoLeaks(t, before) }) // after what the check itself cleans up
			c.Run(t, s)
		})
	}
}

// Failures runs every check against s and returns the names of those that
// fail: what a deliberately broken subject must bring about.
func Failures[S any](t *testing.T, s S, checks []Check[S]) []string {
	defer func(d time.Duration) { Deadline = d }(Deadline)
	Deadline = time.Second
	var failed []string
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.Run(r, s)
			}()
			<-done
			if r.lost() {
				failed = append(failed, c.Name)
			}
		})
	}
	return failed
}

// recorder notes failures instead of failing.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
}

func (r *recorder) lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Fail() {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
}

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Failed() bool              { return r.lost() }
func (r *recorder) Error(args ...any)         { r.Logf("expected: %s", fmt.Sprint(args...)); r.Fail() }
func (r *recorder) Errorf(f string, a ...any) { r.Logf("expected: "+f, a...); r.Fail() }
func (r *recorder) Fatal(args ...any)         { r.Logf("expected: %s", fmt.Sprint(args...)); r.FailNow() }
func (r *recorder) Fatalf(f string, a ...any) { r.Logf("expected: "+f, a...); r.FailNow() }

// Deadline is how long a suite waits for what must come; only a failing test
// waits that long. Failures makes it short, since there the wait is the verdict.
var Deadline = 20 * time.Second

// Eventually waits until ok is true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Within(Deadline, ok) {
		t.Fatalf("not within %v: %s", Deadline, what)
	}
}

// Within waits for ok and reports whether it came in time.
func Within(d time.Duration, ok func() bool) bool {
	end := time.Now().Add(d)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
	}
}

// NoLeaks fails if there are more goroutines than before, after a while.
func NoLeaks(t testing.TB, before int) {
	t.Helper()
	if t.Failed() || Within(5*time.Second, func() bool { return runtime.NumGoroutine() <= before }) {
		return
	}
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	if strings.Contains(stacks, "core") {
		t.Errorf("%d goroutines more than before:\n%s", runtime.NumGoroutine()-before, stacks)
	}
}

// Bodies returns n different bodies beginning at number from.
func Bodies(from, n int) []string {
	b := make([]string, n)
	for i := range b {
		b[i] = fmt.Sprintf("event %06d of the suite", from+i)
	}
	return b
}
