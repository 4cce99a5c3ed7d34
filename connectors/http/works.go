package http

import "sync"

// works counts the requests in the works, so that an end can wait for them.
type works struct {
	mu               sync.Mutex
	quiet            sync.Cond // on mu
	running, storing int
	settled          bool
}

func newWorks() *works {
	w := new(works)
	w.quiet.L = &w.mu
	return w
}

func (w *works) enter() {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
}

func (w *works) leave() {
	w.mu.Lock()
	w.running--
	w.quiet.Broadcast()
	w.mu.Unlock()
}

// store reports whether a request may still be stored; if so, stored must follow.
func (w *works) store() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.settled {
		w.storing++
	}
	return !w.settled
}

func (w *works) stored() {
	w.mu.Lock()
	w.storing--
	w.quiet.Broadcast()
	w.mu.Unlock()
}

// settle lets no further request be stored, and waits until those that are have been answered.
func (w *works) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.settled = true; w.storing > 0; {
		w.quiet.Wait()
	}
}

// end waits until no request is in the works.
func (w *works) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.running > 0 {
		w.quiet.Wait()
	}
}
