package http

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// service is one Run of the source.
type service struct {
	*source
	out      core.Outlet
	hard     context.Context // ends when there is no more time to wait for room
	works    *works
	slots    chan struct{} // one for each request that may be stored now
	budget   accept.Budget
	keys     *gate
	decoders sync.Pool // *decoder
	unzips   sync.Pool // *gzip.Reader

	cut                      *metric.Extra
	refusals, failures, cuts sample.Log
}

func newService(s *source, out core.Outlet, hard context.Context) *service {
	v := &service{
		source: s, out: out, hard: hard, works: newWorks(), slots: make(chan struct{}, s.workers),
		budget: accept.Budget{Max: s.maxPending}, keys: newGate(s.users, s.tokens),
	}
	v.cut = s.env.Metrics.Counter("blobs_cut_total", "Bodies of which only the first maxBlobLength bytes were taken.")
	return v
}

// fault is an answer other than 200.
type fault struct {
	status int
	text   string
	unread bool // the request is not at fault by what it says: it counts elsewhere
}

func (f *fault) Error() string { return f.text }

func refuse(status int, text ...string) *fault {
	return &fault{status: status, text: strings.Join(text, "")}
}

var (
	errStopping = refuse(http.StatusServiceUnavailable, "the agent is stopping")
	errBusy     = &fault{http.StatusServiceUnavailable, "too many requests at once", true}
)

// ServeHTTP implements http.Handler.
func (v *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.works.enter()
	defer v.works.leave()
	f := v.admit(w, r)
	if f != nil {
		v.answer(w, r, f)
		return
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.ContentLength == 0 && v.handler != handlerBlob && v.handler != handlerMorphline {
		v.answer(w, r, nil) // somebody asks whether the source is there
		return
	}
	b, held, f := v.receive(r)
	if f != nil {
		v.budget.Give(held) // before the answer, which may bring the next request at once
		if !f.unread {
			v.env.Metrics.EventReadFail.Add(1)
		}
		v.answer(w, r, f)
		return
	}
	if !v.works.store() {
		b.Release()
		v.budget.Give(held)
		v.answer(w, r, errStopping)
		return
	}
	defer v.works.stored()
	f = v.store(b)
	v.budget.Give(held)
	v.answer(w, r, f)
}

// admit looks at a request without its body.
func (v *service) admit(w http.ResponseWriter, r *http.Request) *fault {
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodHead:
	case http.MethodTrace, http.MethodOptions:
		return refuse(http.StatusForbidden, r.Method, " is not allowed")
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		return refuse(http.StatusMethodNotAllowed, "method not allowed, use POST")
	}
	if v.keys != nil && !v.keys.opens(r.Header.Get("Authorization")) {
		v.keys.challenge(w.Header())
		return refuse(http.StatusUnauthorized, "user and password, or bearer token, are missing or wrong")
	}
	if r.ContentLength > v.maxRequest && v.handler != handlerMorphline {
		return v.tooLong()
	}
	return nil
}

func (v *service) tooLong() *fault {
	return refuse(http.StatusRequestEntityTooLarge, "request is longer than ", strconv.FormatInt(v.maxRequest, 10), " bytes (maxRequestBytes)")
}

func (v *service) tooMany() *fault {
	return refuse(http.StatusRequestEntityTooLarge, "request has more than ", strconv.Itoa(v.maxEvents), " events (maxRequestEvents); send fewer at a time")
}

// store puts b, which it takes over.
func (v *service) store(b *core.Batch) *fault {
	v.env.Metrics.AppendBatchReceived.Add(1)
	if len(b.Events) > 0 {
		select {
		case v.slots <- struct{}{}:
		case <-v.hard.Done():
			b.Release()
			return errStopping
		}
		err := v.out.Put(v.hard, b)
		<-v.slots
		if err != nil {
			return v.failure(err)
		}
	} else {
		b.Release()
	}
	v.env.Metrics.AppendBatchAccepted.Add(1)
	return nil
}

// failure is the answer to a batch that could not be put.
func (v *service) failure(err error) *fault {
	switch {
	case v.hard.Err() != nil, errors.Is(err, core.ErrClosed):
		return errStopping
	case errors.Is(err, core.ErrChannelFull):
		v.failures.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "request answered 503", slog.Any("error", err))
		return refuse(http.StatusServiceUnavailable, "no room, try again: ", err.Error())
	case errors.Is(err, core.ErrTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "send fewer events at a time: ", err.Error())
	}
	v.failures.Say(v.env.Log, v.env.Now(), slog.LevelError, "events not stored", slog.Any("error", err))
	if core.IsPermanent(err) {
		return refuse(http.StatusInternalServerError, "events not stored: ", err.Error())
	}
	return refuse(http.StatusServiceUnavailable, "events not stored, try again: ", err.Error())
}

// retryAfter is what a client is asked to wait, in seconds. The channel's
// keep-alive has passed when it is told.
const retryAfter = "1"

// maxText bounds what an answer says of what the client sent.
const maxText = 300

// answer writes f, or 200 for nil, and sends it off.
func (v *service) answer(w http.ResponseWriter, r *http.Request, f *fault) {
	h := w.Header()
	if f == nil {
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusOK)
	} else {
		text := f.text
		for n := maxText; len(text) > maxText; n-- {
			if utf8.RuneStart(text[n]) {
				text = text[:n] + "..."
				break
			}
		}
		v.refusals.Say(v.env.Log, v.env.Now(), slog.LevelDebug, "request refused",
			slog.Int("status", f.status), slog.String("why", text), slog.String("client", r.RemoteAddr))
		text += "\n"
		if f.status == http.StatusServiceUnavailable {
			h.Set("Retry-After", retryAfter)
		}
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, text) // a client that left need not be told
	}
	if fl, ok := w.(http.Flusher); ok {
		fl.Flush() // before the end of the source may close the connection
	}
}
