//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestS3 writes into a real store, through a proxy that fails many of the
// requests, and is killed before and after every kind of request of an upload.
// The objects are then byte for byte what a run without any of that gives: the
// log, cut after every so many lines.
func TestS3(t *testing.T) {
	dir := workDir(t)
	for _, c := range []struct {
		name  string
		count int   // lines of an object
		every int64 // of so many requests one fails
		steps []string
	}{
		{"parts", 60000, 4, []string{"create", "part", "complete"}},
		{"puts", 20000, 3, []string{"put"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(dir, c.name)
			store := s3Server(t)
			p := newS3Proxy(t, store.uri, c.every)
			log := filepath.Join(dir, "log", "app.log")
			write(t, log, "")
			a := newAgent(t, dir, "s3.conf", vars{"E2E_S3": p.uri, "E2E_COUNT": strconv.Itoa(c.count)})
			a.start()
			n := 0
			grow := func(lines int) {
				var text strings.Builder
				for range lines {
					n++
					fmt.Fprintf(&text, "%s\n", line("app", n))
				}
				appendTo(t, log, text.String())
			}
			kills := 0
			for range pick(1, 50/len(c.steps)) {
				for _, op := range c.steps {
					for _, after := range []bool{false, true} {
						reached := p.stopAt(op, after)
						grow(c.count)
						select {
						case <-reached:
						case <-time.After(patience):
							t.Fatalf("no request to kill at: %s", op)
						}
						a.kill9()
						p.goOn()
						kills++
						a.start()
					}
				}
			}
			grow(c.count - n%c.count)
			eventually(t, "everything is in the store", func() bool { return store.size() >= size(t, log) && len(s3Spooled(t, dir)) == 0 })
			a.stop()
			want, err := os.ReadFile(log)
			must(t, err)
			var objects int
			for _, name := range store.objects(t) {
				got, err := os.ReadFile(name)
				must(t, err)
				if lines := bytes.Count(got, []byte("\n")); lines != c.count || !bytes.HasPrefix(want, got) {
					t.Fatalf("object %d has %d lines, want the next %d of the log", objects, lines, c.count)
				}
				want = want[len(got):]
				objects++
			}
			if len(want) > 0 {
				t.Errorf("%d bytes of the log are missing", len(want))
			}
			if left := store.begun(t); len(left) > 0 {
				t.Errorf("multipart uploads that are begun and not ended: %q", left)
			}
			t.Logf("%d lines in %d objects, %d kills, %d requests, %d of them failed", n, objects, kills, p.asked.Load(), p.failed.Load())
		})
	}
}

// TestS3Partitions writes into 200 objects at a time, in bounded memory.
func TestS3Partitions(t *testing.T) {
	dir := workDir(t)
	store := s3Server(t)
	const partitions, most = 200, 256 << 20
	a := newAgent(t, dir, "s3.conf", vars{"E2E_S3": store.uri, "E2E_COUNT": "0", "E2E_SERIALIZER": "JSON", "E2E_IDLE": "10"})
	log := filepath.Join(dir, "log", "app.log")
	write(t, log, "")
	a.start()
	rounds := pick(20, 400)
	total := 0
	for r := range rounds {
		var text strings.Builder
		for i := range 100 * partitions {
			total++
			fmt.Fprintf(&text, "%s\n", line(fmt.Sprint("w", i%partitions), r*100+i/partitions))
		}
		appendTo(t, log, text.String())
	}
	for delivered := -1.0; delivered < float64(total); { // as long as it takes, but not standing still
		before := delivered
		eventually(t, "more is delivered", func() bool {
			delivered = a.metric("millrace_sink_events_drained_total")
			return delivered > before
		})
	}
	for left := -1; left != 0; { // all are idle now, and end
		before := left
		eventually(t, "more is published", func() bool {
			left = len(s3Spooled(t, dir))
			return left != before
		})
	}
	peak := peakMemory(t, a.cmd.Process.Pid)
	a.stop()
	names := store.objects(t)
	if len(names) < partitions { // a slow machine may let some be idle before
		t.Errorf("%d objects, want %d", len(names), partitions)
	}
	seen := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(t, err)
		seen += bytes.Count(data, []byte("\n"))
	}
	if seen != total {
		t.Errorf("%d events, want %d", seen, total)
	}
	if peak > most {
		t.Errorf("%d MiB of memory, allowed are %d", peak>>20, most>>20)
	}
	t.Logf("%d events in %d objects, %d MiB of memory at most", total, len(names), peak>>20)
}

// peakMemory is the most resident memory that a process ever had, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(t, err)
	return kb << 10
}

// s3Spooled are the files of objects that are not published.
func s3Spooled(t *testing.T, dir string) (names []string) {
	list, err := os.ReadDir(filepath.Join(dir, "state", "spool"))
	must(t, err)
	for _, e := range list {
		if n := e.Name(); n != "id" && n != "lock" {
			names = append(names, n)
		}
	}
	return names
}

// s3Store is a running store with the bucket logs.
type s3Store struct{ uri, dir string }

var s3Servers atomic.Int32

func s3Server(t *testing.T) s3Store {
	name, at := fmt.Sprint("s", os.Getpid(), "-", s3Servers.Add(1)), port(t)
	run := os.Getenv("MILLRACE_E2E_RUN")
	if run == "" {
		run = filepath.Join(filepath.Dir(certs()), "run")
	}
	dir := filepath.Join(run, "s3-"+name, "data")
	must(t, os.MkdirAll(filepath.Join(dir, "logs"), 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(dir)) }) // after the daemon has ended
	daemon(t, nil, "s3.sh", "start", name, at)
	return s3Store{"http://127.0.0.1:" + at, filepath.Join(dir, "logs")}
}

// objects are the files of all objects, in order of the numbers in their keys.
func (s s3Store) objects(t *testing.T) (names []string) {
	must(t, filepath.WalkDir(filepath.Join(s.dir, "events"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	number := func(name string) int {
		_, rest, _ := strings.Cut(filepath.Base(name), ".")
		n, err := strconv.Atoi(rest[:strings.IndexByte(rest, '-')])
		must(t, err)
		return n
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return names
}

// begun are the files of multipart uploads that have not ended.
func (s s3Store) begun(t *testing.T) (names []string) {
	must(t, filepath.WalkDir(filepath.Join(s.dir, ".sgwtmp"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

// size is the bytes of all objects.
func (s s3Store) size() (total int64) {
	_ = filepath.WalkDir(filepath.Join(s.dir, "events"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it is not there yet, or not any more
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

func size(t *testing.T, name string) int64 {
	info, err := os.Stat(name)
	must(t, err)
	return info.Size()
}

// s3Proxy stands before a store. It fails some requests, each in one of several
// ways, and can stop at the next one of a kind.
type s3Proxy struct {
	uri           string
	every         int64 // of so many requests one fails
	asked, failed atomic.Int64

	mu      sync.Mutex
	op      string // to stop at
	after   bool
	reached chan struct{}
	resume  chan struct{}
}

func newS3Proxy(t *testing.T, store string, every int64) *s3Proxy {
	to, err := url.Parse(store)
	must(t, err)
	p := &s3Proxy{every: every}
	forward := &httputil.ReverseProxy{
		Director:       func(r *http.Request) { r.URL.Scheme, r.URL.Host = to.Scheme, to.Host }, // the host is signed: it stays
		ModifyResponse: p.answered,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	at := port(t)
	server := &http.Server{Addr: "127.0.0.1:" + at, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) })}
	t.Cleanup(func() { _ = server.Close() }) // clients that are still connected do not matter
	go func() { _ = server.ListenAndServe() }()
	eventually(t, "the proxy answers", func() bool { _, code := get("http://" + server.Addr); return code != 0 })
	p.uri = "http://" + server.Addr
	return p
}

// stopAt makes the proxy hold the next request of that kind, and all others
// from then on, before or after the store has done it.
func (p *s3Proxy) stopAt(op string, after bool) (reached <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.op, p.after, p.reached, p.resume = op, after, make(chan struct{}), make(chan struct{})
	return p.reached
}

func (p *s3Proxy) goOn() { close(p.resume) }

// hold stops if it is time, and reports whether it did.
func (p *s3Proxy) hold(r *http.Request, after bool) bool {
	p.mu.Lock()
	resume := p.resume
	stop := p.op != "" && p.op == s3Operation(r) && p.after == after
	if stop {
		p.op = ""
		close(p.reached)
	}
	p.mu.Unlock()
	if stop {
		<-resume
	}
	return stop
}

func (p *s3Proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	n := p.asked.Add(1)
	if p.hold(r, false) {
		panic(http.ErrAbortHandler)
	}
	if n%p.every != 0 {
		forward.ServeHTTP(w, r)
		return
	}
	p.failed.Add(1)
	switch n / p.every % 4 {
	case 0:
		s3Error(w, r, http.StatusInternalServerError, "InternalError")
	case 1:
		s3Error(w, r, http.StatusServiceUnavailable, "SlowDown")
	case 2: // no answer in time
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	case 3: // done, and the answer is lost
		forward.ServeHTTP(httpDiscard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	}
}

// httpDiscard is where answers get lost.
type httpDiscard struct{ header http.Header }

func (d httpDiscard) Header() http.Header         { return d.header }
func (d httpDiscard) Write(b []byte) (int, error) { return len(b), nil }
func (d httpDiscard) WriteHeader(int)             {}

func (p *s3Proxy) answered(r *http.Response) error {
	if p.hold(r.Request, true) {
		return http.ErrAbortHandler
	}
	return nil
}

func s3Error(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body) // else the client may see a broken pipe, and not the answer
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>by the proxy</Message></Error>", code)
}

func s3Operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "create"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "part"
	case r.Method == http.MethodPost:
		return "complete"
	case r.Method == http.MethodPut:
		return "put"
	}
	return "other"
}
