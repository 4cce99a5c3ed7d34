package webhook

import (
	"context"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/sidecar/inject"
)

// atOnce bounds the reviews that are worked on, and with them the memory. API
// servers ask one at a time for each object; more of them wait.
const atOnce = 16

// Handler answers reviews. Its exported cells are its metrics.
type Handler struct {
	Injected, Refused, Bad metric.Cell
	Skipped                map[string]*metric.Cell // by reason
	Seconds                metric.Histogram        // from the first byte to the answer

	options inject.Options
	all     bool
	log     *slog.Logger
	places  chan struct{}
}

// NewHandler answers with what o adds; with all, pods need no annotation.
func NewHandler(o inject.Options, all bool, log *slog.Logger) *Handler {
	h := &Handler{options: o, all: all, log: log, places: make(chan struct{}, atOnce), Skipped: make(map[string]*metric.Cell)}
	for _, left := range Reasons() {
		h.Skipped[left] = new(metric.Cell)
	}
	return h
}

// Reasons are those for which an object is left as it is.
func Reasons() []string {
	return []string{
		string(inject.LeftUnasked), string(inject.LeftOff), string(inject.LeftInjected), string(inject.LeftMirror),
		string(inject.LeftOther), string(leftOperation),
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	defer func() { h.Seconds.Observe(time.Since(began), 1) }()
	if !h.enter(r.Context()) {
		return // nobody waits for an answer any more
	}
	defer func() { <-h.places }()
	body, code, why := readBody(w, r)
	if why != "" {
		h.bad(w, r, code, why)
		return
	}
	review, err := ParseReview(body)
	if err != nil {
		h.bad(w, r, http.StatusBadRequest, err.Error())
		return
	}
	v := Decide(review, h.options, h.all)
	h.note(review, v)
	answer, err := v.Answer(review.UID)
	if err != nil {
		h.bad(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // an API server that is gone asks again
}

func (h *Handler) enter(ctx context.Context) bool {
	select {
	case h.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func readBody(w http.ResponseWriter, r *http.Request) (body []byte, code int, why string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, http.StatusMethodNotAllowed, "only POST"
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, http.StatusUnsupportedMediaType, "a review is application/json"
	}
	if r.ContentLength > MaxReview {
		return nil, http.StatusRequestEntityTooLarge, "a review of more than 8 MiB is refused"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxReview))
	if err != nil {
		return nil, http.StatusRequestEntityTooLarge, "read review: " + err.Error()
	}
	return body, 0, ""
}

// bad answers what is no review: to the API server this is a failed call, and failurePolicy says what follows.
func (h *Handler) bad(w http.ResponseWriter, r *http.Request, code int, why string) {
	h.Bad.Add(1)
	h.log.Warn("no review", "from", r.RemoteAddr, "code", code, "error", why)
	http.Error(w, why, code)
}

// note counts a verdict and says it, with the pod's name.
func (h *Handler) note(r Review, v Verdict) {
	log := h.log.With("kind", r.Kind, "namespace", r.Namespace, "name", r.Name, "uid", r.UID)
	if r.DryRun {
		log = log.With("dry_run", true)
	}
	switch v.Outcome {
	case Injected:
		h.Injected.Add(1)
		log.Info("sidecar injected")
	case Refused:
		h.Refused.Add(1)
		log.Warn("refused", "reason", v.Reason)
	case Skipped:
		h.Skipped[v.Reason].Add(1)
		log.Info("left as it is", "reason", v.Reason)
	}
}
