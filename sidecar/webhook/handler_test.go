package webhook

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func post(h http.Handler, method, contentType string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/mutate", body)
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Every review is counted, and logged with the name of its pod.
func TestHandlerCountsAndSays(t *testing.T) {
	var log bytes.Buffer
	h := NewHandler(options(), false, slog.New(slog.NewTextHandler(&log, nil)))
	for _, c := range []struct{ body, says string }{
		{reviewHead + askedPod + "}}", `msg="sidecar injected" kind=Pod namespace=shop name=web-5d9c-* uid=u-1`},
		{strings.Replace(reviewHead, `"dryRun":false`, `"dryRun":true`, 1) + askedPod + "}}", "dry_run=true"},
		{reviewHead + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"plain"}}}}`, `msg="left as it is" kind=Pod namespace=shop name=plain uid=u-1 reason=unasked`},
		{reviewHead + strings.Replace(askedPod, `"true"`, `"perhaps"`, 1) + "}}", `level=WARN msg=refused kind=Pod namespace=shop name=web-5d9c-* uid=u-1 reason="metadata.annotations`},
	} {
		log.Reset()
		if w := post(h, "POST", "application/json", strings.NewReader(c.body)); w.Code != 200 || !strings.Contains(w.Body.String(), `"uid":"u-1"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if !strings.Contains(log.String(), c.says) {
			t.Errorf("it says %s, not %s", log.String(), c.says)
		}
	}
	if h.Injected.Load() != 2 || h.Refused.Load() != 1 || h.Skipped["unasked"].Load() != 1 || h.Bad.Load() != 0 {
		t.Error(h.Injected.Load(), h.Refused.Load(), h.Skipped["unasked"].Load(), h.Bad.Load())
	}
	if n, _, _ := h.Seconds.Snapshot(); n != 4 {
		t.Error(n, "were timed")
	}
}

// blanks are as many as are read.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What is no review is refused with a code of HTTP, before much of it is read.
func TestHandlerRefusesWhatIsNoReview(t *testing.T) {
	h := NewHandler(options(), false, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, contentType string
		body                io.Reader
		code                int
	}{
		{"GET", "application/json", nil, 405},
		{"POST", "text/plain", strings.NewReader("{}"), 415},
		{"POST", "application/json; charset=utf-8", strings.NewReader("{}"), 400},
		{"POST", "application/json", bytes.NewReader(make([]byte, MaxReview+1)), 413},
		{"POST", "application/json", io.LimitReader(blanks{}, MaxReview+1), 413},
	} {
		if w := post(h, c.method, c.contentType, c.body); w.Code != c.code {
			t.Errorf("%s %s: %d %s", c.method, c.contentType, w.Code, w.Body)
		}
	}
	if h.Bad.Load() != 5 {
		t.Error(h.Bad.Load(), "were counted")
	}
}

// No more reviews are worked on at once than there is memory for; whoever goes away meanwhile is not waited for.
func TestHandlerBoundsWork(t *testing.T) {
	h := NewHandler(options(), false, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	var pipes []*io.PipeWriter
	for range atOnce {
		r, w := io.Pipe()
		pipes = append(pipes, w)
		all.Go(func() { post(h, "POST", "application/json", r) })
		_, _ = w.Write([]byte(" ")) // it is being read now
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "/mutate", strings.NewReader("{}"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if h.Bad.Load() != 0 || w.Body.Len() != 0 {
		t.Error("it was worked on", w.Body)
	}
	for _, p := range pipes {
		_ = p.Close()
	}
	all.Wait()
	if h.Bad.Load() != atOnce {
		t.Error(h.Bad.Load())
	}
}

// BenchmarkReview is the time from a review to its answer, without the network.
func BenchmarkReview(b *testing.B) {
	h := NewHandler(options(), false, slog.New(slog.NewTextHandler(io.Discard, nil)))
	large := strings.Replace(askedPod, `{"name":"app","image":"app:1"}`, `{"name":"app","image":"app:1","env":[`+
		strings.Repeat(`{"name":"A","value":"`+strings.Repeat("x", 100)+`"},`, 500)+`{"name":"B"}]}`, 1)
	for _, c := range []struct{ name, body string }{
		{"pod", reviewHead + askedPod + "}}"},
		{"large", reviewHead + large + "}}"},
		{"unasked", reviewHead + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"plain"}}}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				if w := post(h, "POST", "application/json", strings.NewReader(c.body)); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
