package sidecar

import (
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// drainState is how far an agent's end is, and the way to begin it without a signal.
type drainState struct {
	agent    string
	asked    chan struct{} // somebody wants it to begin
	ended    chan struct{} // closed when it is over
	released chan struct{} // closed when the process may end after it

	mu     sync.Mutex
	held   bool // it began without a signal: the process stays to tell of it until there is one
	letGo  bool // released is closed
	report drainReport
}

// drainReport is how far a drain is. While it runs Left is what there is still to
// deliver; at its end, what stayed where it is.
type drainReport struct {
	Msg   string      `json:"msg"` // running, draining or drained
	Agent string      `json:"agent"`
	Kept  int         `json:"kept"` // events on disk, delivered after the next start
	Lost  int         `json:"lost"` // events in memory; a source that can read again will
	Left  []core.Left `json:"left"`
}

// What a drainReport says.
const (
	drainNone  = "running"
	drainBegun = "draining"
	drainEnded = "drained"
)

func newDrainState(agent string) *drainState {
	return &drainState{agent: agent, asked: make(chan struct{}, 1), ended: make(chan struct{}), released: make(chan struct{})}
}

func reportOf(msg, agent string, left []core.Left) drainReport {
	r := drainReport{Msg: msg, Agent: agent, Left: or(left)}
	for _, l := range left {
		if l.Kept {
			r.Kept += l.Events
		} else {
			r.Lost += l.Events
		}
	}
	return r
}

// ask has the drain begin.
func (d *drainState) ask() {
	select {
	case d.asked <- struct{}{}:
	default: // asked already
	}
}

// hold keeps the process after the drain, for whoever waits for its end by
// another way than the process's.
func (d *drainState) hold() {
	d.mu.Lock()
	d.held = true
	d.mu.Unlock()
}

// release lets the process end, and tells whether that is new.
func (d *drainState) release() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.held || d.letGo {
		return false
	}
	d.letGo = true
	close(d.released)
	return true
}

// end notes what is left, for good.
func (d *drainState) end(left []core.Left) {
	d.mu.Lock()
	d.report = reportOf(drainEnded, d.agent, left)
	d.mu.Unlock()
	close(d.ended)
}

// wait returns when the process may end.
func (d *drainState) wait() {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held {
		<-d.released
	}
}

// final is the report of a drain that is over.
func (d *drainState) final() (r drainReport, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.report, d.report.Msg != ""
}

// drained is the report as it is now.
func (s *adminServer) drained(st *core.Status) drainReport {
	if r, ok := s.drain.final(); ok {
		return r
	}
	msg := drainNone
	if st.Draining {
		msg = drainBegun
	}
	if left := s.agent.Left(); left != nil { // the channels are closed, or about to be
		return reportOf(msg, st.Agent, left)
	}
	var left []core.Left
	for _, c := range st.Channels {
		if c.Events > 0 {
			left = append(left, core.Left{Channel: c.Name, Events: c.Events, Bytes: c.Bytes, Kept: c.Durable})
		}
	}
	return reportOf(msg, st.Agent, left)
}

// longestWait is how long a request to /drainz may wait at most.
const longestWait = time.Hour

// drainz tells how far the drain is, and with ?wait=TIME waits for its end so
// long. A POST has it begin: it is then as after SIGTERM, but that the process
// stays until there is one.
func (s *adminServer) drainz(w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > longestWait {
			http.Error(w, "wait is a time such as 25s, at most "+longestWait.String(), http.StatusBadRequest)
			return
		}
	}
	if r.Method == http.MethodPost {
		// A page of another origin, in a browser on this machine, may post here without being asked.
		if !sameOrigin(r) {
			http.Error(w, "a page of another origin may not begin a drain", http.StatusForbidden)
			return
		}
		s.drain.ask()
	}
	patient(w)
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-s.drain.ended:
	case <-limit.C:
	case <-r.Context().Done():
		return
	}
	st := s.agent.Status()
	report := s.drained(&st)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case report.Msg == drainEnded || wait == 0 && r.Method != http.MethodPost:
	case wait == 0:
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	writeJSON(w, report)
}

// sameOrigin tells whether a request comes from a page of this server, or from no
// page at all. Browsers say where from; http.CrossOriginProtection does the same,
// and links a router.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin == "" || err == nil && u.Host == r.Host
	}
	return false
}

// patient takes the server's time limits from an answer that takes long.
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // a writer without deadlines needs none
	_ = c.SetWriteDeadline(time.Time{})
}
