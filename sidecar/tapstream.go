package sidecar

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

// What /tap shows of an event.
const (
	tapOff     = "off"
	tapHeaders = "headers" // and how long the body is
	tapFull    = "full"
)

// tapOptions say what operators may see of events.
type tapOptions struct {
	mode   string
	redact []*regexp.Regexp // what is replaced in header values and bodies
}

func (o *tapOptions) flags(f *flags) {
	o.mode = tapOff
	f.OneOf(&o.mode, "tap", "whether the admin server shows events in passing, their headers alone, or all of them (default off)", tapOff, tapHeaders, tapFull)
	f.add(valueFunc(func(text string) error {
		re, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("is no regular expression: %w", err)
		}
		o.redact = append(o.redact, re)
		return nil
	}), "tap-redact", "", "REGEX", "what is replaced by ****** in the events that are shown, in header values and bodies (may be repeated)")
}

// Limits of the tap. It looks at so much of a body, and shows less.
const (
	tapRate, tapMostRate = 5, 100 // events a second and edge
	tapShow, tapMostShow = 1 << 10, 16 << 10
	tapLook              = 64 << 10
	tapWaiting           = 256
	tapAlive             = 5 * time.Second
)

// tapped is a line of /tap.
type tapped struct {
	Time    time.Time         `json:"time"`
	Edge    string            `json:"edge"`
	Headers map[string]string `json:"headers"`
	Bytes   int               `json:"bytes"`
	Body    *string           `json:"body,omitempty"`   // as far as it is shown
	Base64  []byte            `json:"base64,omitempty"` // instead, where it is no text
	Cut     bool              `json:"cut,omitempty"`
	Passed  int64             `json:"passed"` // events that passed the edge since the tap is on
}

// sampler picks events in passing. Its method see runs on the goroutines that do
// the work: it copies what is due, and never waits.
type sampler struct {
	edges []string // none: all
	rate  int
	full  bool
	out   chan tapped

	mu   sync.Mutex
	seen map[string]*edgeCount
	lost atomic.Int64
}

type edgeCount struct {
	second int64
	left   int
	passed int64
}

// due tells how many of n events to show.
func (s *sampler) due(edge string, n int, now time.Time) (show int, passed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.seen[edge]
	if c == nil {
		c = new(edgeCount)
		s.seen[edge] = c
	}
	if second := now.Unix(); c.second != second {
		c.second, c.left = second, s.rate
	}
	show = min(n, c.left)
	c.left -= show
	c.passed += int64(n)
	return show, c.passed
}

func (s *sampler) see(from, to string, b *core.Batch, pick []int32) {
	edge := from + ":" + to
	if len(s.edges) > 0 && !slices.Contains(s.edges, edge) {
		return
	}
	n := len(b.Events)
	if pick != nil {
		n = len(pick)
	}
	now := time.Now()
	show, passed := s.due(edge, n, now)
	for i := range show {
		at := i * n / show // spread over the batch
		if pick != nil {
			at = int(pick[at])
		}
		e := b.Events[at]
		one := tapped{Time: now, Edge: edge, Headers: make(map[string]string, e.Headers.Len()), Bytes: len(e.Body), Passed: passed}
		for k, v := range e.Headers.All() {
			one.Headers[strings.Clone(k)] = strings.Clone(v)
		}
		if s.full {
			one.Base64 = slices.Clone(e.Body[:min(len(e.Body), tapLook)])
		}
		select {
		case s.out <- one:
		default:
			s.lost.Add(1)
		}
	}
}

// veil takes out of an event what nobody is to see, and cuts its body.
func (o *tapOptions) veil(one *tapped, show int) {
	for k, v := range one.Headers {
		for _, re := range o.redact {
			v = re.ReplaceAllLiteralString(v, veiled)
		}
		one.Headers[k] = v
	}
	if o.mode != tapFull {
		return
	}
	body := one.Base64
	one.Cut = len(body) < one.Bytes
	for _, re := range o.redact {
		body = re.ReplaceAllLiteral(body, []byte(veiled))
	}
	if len(body) > show {
		body, one.Cut = body[:show], true
	}
	one.Base64 = body
	for i := range min(utf8.UTFMax, len(body)+1) {
		if text := string(body[:len(body)-i]); utf8.ValidString(text) {
			one.Body, one.Base64 = &text, nil
			return
		}
		if !one.Cut {
			return // it is no text; where it is cut, that may be in the middle of a character
		}
	}
}

// veiled stands for what is hidden.
const veiled = "******"

// edgesOf are the edges of an agent, as from:to.
func edgesOf(st *core.Status) (list []string) {
	add := func(from, to string) {
		if e := from + ":" + to; !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	groups := map[string]bool{}
	for _, k := range st.Sinks {
		if k.Group != "" {
			groups[k.Group] = true
		}
	}
	for _, s := range st.Sources {
		for _, c := range s.Channels {
			add(s.Name, c)
		}
	}
	for _, k := range st.Sinks {
		if !groups[k.Name] {
			add(k.Channel, k.Name)
		}
		if k.Dead != "" && k.Group == "" {
			add(k.Name, k.Dead)
		}
	}
	return list
}

// serveTap shows a sample of the events that pass: ?edge=FROM:TO (may be repeated;
// none: every edge), rate (events a second and edge), bytes (of each body).
func (s *adminServer) serveTap(w http.ResponseWriter, r *http.Request) {
	if s.tap.mode == tapOff || s.tap.mode == "" {
		http.Error(w, "the tap is off: start the agent with --tap full, or with --tap headers", http.StatusForbidden)
		return
	}
	q := r.URL.Query()
	rate, ok1 := number(q.Get("rate"), tapRate, tapMostRate)
	show, ok2 := number(q.Get("bytes"), tapShow, tapMostShow)
	if !ok1 || !ok2 {
		http.Error(w, fmt.Sprintf("rate is a number from 1 to %d, bytes from 1 to %d", tapMostRate, tapMostShow), http.StatusBadRequest)
		return
	}
	st := s.agent.Status()
	edges := edgesOf(&st)
	for _, e := range q["edge"] {
		if !slices.Contains(edges, e) {
			http.Error(w, fmt.Sprintf("there is no edge %q; there are: %s", e, strings.Join(edges, " ")), http.StatusNotFound)
			return
		}
	}
	out, end, ok := s.openStream(w, "application/x-ndjson")
	if !ok {
		return
	}
	defer end()
	take := &sampler{edges: q["edge"], rate: rate, full: s.tap.mode == tapFull, out: make(chan tapped, tapWaiting), seen: make(map[string]*edgeCount)}
	stop := s.agent.Tap(take.see)
	defer stop()
	alive := time.NewTicker(tapAlive)
	defer alive.Stop()
	for good := out.write("\n"); good; { // the client knows that it is on
		select {
		case one := <-take.out:
			s.tap.veil(&one, show)
			text, err := json.Marshal(one)
			good = err == nil && out.write(string(text), "\n")
		case <-alive.C:
			good = out.write("\n")
		case <-r.Context().Done():
			return
		case <-s.over:
			return
		}
	}
}

// number reads one from 1 to most; empty is the default.
func number(text string, def, most int) (int, bool) {
	if text == "" {
		return def, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 1 && n <= most
}
