package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// One event that the far end will never take is found among others, and only it is refused.
func TestPoisonEvent(t *testing.T) {
	for _, code := range []int{400, 413, 422} {
		f := newFarEnd(t, func(w http.ResponseWriter, g got) []string {
			if strings.Contains(g.body, "poison") {
				http.Error(w, "line 1: no\r\n\x07thing", code)
				return nil
			}
			return takers[formatLines](w, g)
		})
		in := openSink(t, f, map[string]string{"format": formatLines})
		bodies := suite.Bodies(0, 100)
		bodies[37], bodies[99] = "poison", "poison too"
		d := deliver(t, in, texts(bodies...)...)
		in.Close()
		if len(d.acked) != 98 || len(d.refused) != 2 || d.refused[37] == nil || d.refused[99] == nil || !slices.IsSorted(d.acked) {
			t.Errorf("%d: acked %v, refused %v", code, d.acked, d.refused)
		}
		if got := f.seen(); !slices.Equal(got, slices.DeleteFunc(bodies, func(b string) bool { return strings.HasPrefix(b, "poison") })) {
			t.Errorf("%d: %q", code, got)
		}
		want := fmt.Sprintf("POST %s/logs/_bulk: answer %d %s: line 1: no thing", f.URL, code, http.StatusText(code))
		if why := d.refused[37].Error(); why != want {
			t.Errorf("%q, want %q", why, want)
		}
		if n := len(f.requests()); n > 2*2*8 {
			t.Errorf("%d requests", n)
		}
	}
}

// An event at which the far end breaks is sent again as often as maxAttempts
// says, then found among the others and refused. A far end that is away is
// waited for, however long.
func TestPoisonEventBreaksFarEnd(t *testing.T) {
	for _, code := range []int{500, 507, 503} {
		f := newFarEnd(t, func(w http.ResponseWriter, g got) []string {
			if strings.Contains(g.body, "poison") {
				http.Error(w, "null pointer", code)
				return nil
			}
			return takers[formatLines](w, g)
		})
		in := openSink(t, f, map[string]string{"format": formatLines, "maxAttempts": "3"})
		bodies := suite.Bodies(0, 20)
		bodies[7] = "poison"
		for try := 1; try <= 3; try++ {
			d := deliver(t, in, texts(bodies...)...)
			switch {
			case try < 3 || code == 503:
				if d.rolled == nil || len(d.acked)+len(d.refused) > 0 {
					t.Errorf("%d, try %d: %+v", code, try, d.fate())
				}
			case len(d.acked) != 19 || len(d.refused) != 1 || d.refused[7] == nil:
				t.Errorf("%d, try %d: acked %v, refused %v, rolled back %v", code, try, d.acked, d.refused, d.rolled)
			}
		}
		bodies[7] = "poison too" // which has all its attempts before it
		if d := deliver(t, in, texts(bodies...)...); code != 503 && (d.rolled == nil || len(d.refused) > 0) {
			t.Errorf("%d: the next one: %+v", code, d.fate())
		}
		in.Close()
	}
}

// What was taken before a failure is not sent again.
func TestPartOfBatch(t *testing.T) {
	f := newFarEnd(t, takers[formatLines])
	f.tell(func(w http.ResponseWriter, r *http.Request, g got) {
		if strings.Contains(g.body, "000004") {
			w.WriteHeader(503)
		}
	})
	in := openSink(t, f, map[string]string{"format": formatLines, "maxRequestBytes": "60"}) // two events each
	defer in.Close()
	d := deliver(t, in, texts(suite.Bodies(0, 10)...)...)
	if !slices.Equal(d.acked, []int{0, 1, 2, 3}) || d.rolled == nil || len(f.requests()) != 3 {
		t.Errorf("acked %v, rolled back %v, %d requests", d.acked, d.rolled, len(f.requests()))
	}
}

// Nobody listens: the events wait, and the connection that failed is counted. What may be secret in the URL is not told.
func TestNobodyListens(t *testing.T) {
	f := newFarEnd(t, nil)
	f.Start()
	f.Server.Close()
	in := openSink(t, f, map[string]string{"endpoint": f.URL + "/x?token=swordfish"})
	defer in.Close()
	d := deliver(t, in, texts("one")...)
	if d.rolled == nil || in.Env.Metrics.ConnectionFailed.Load() != 1 || strings.Contains(d.rolled.Error(), "swordfish") ||
		!strings.HasPrefix(d.rolled.Error(), "POST "+f.URL+"/x: dial tcp ") {
		t.Errorf("%v, %d connections failed", d.rolled, in.Env.Metrics.ConnectionFailed.Load())
	}
}

// Answers that never end, or are larger than they should be, cost little.
func TestAnswerLimits(t *testing.T) {
	endless := func(status int) func(http.ResponseWriter, *http.Request, got) {
		return func(w http.ResponseWriter, r *http.Request, _ got) {
			w.WriteHeader(status)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("words ", 1000)); err != nil {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		format string
		status int
		want   fate
	}{
		{formatLines, 200, fate{acked: 1}}, {formatLines, 500, fate{rolled: true}}, {formatBulk, 200, fate{rolled: true}},
	} {
		f := newFarEnd(t, nil)
		f.tell(endless(c.status))
		keys := map[string]string{"format": c.format}
		if c.format == formatBulk {
			keys["maxResponseBytes"] = "100k"
		}
		in := openSink(t, f, keys)
		d := deliver(t, in, texts("one")...)
		if d.fate() != c.want || d.rolled != nil && len(d.rolled.Error()) > 600 {
			t.Errorf("%+v: %+v, %v", c, d.fate(), d.rolled)
		}
		if n := in.Sink.(*sink); cap((<-n.lanes).answer.Bytes()) > 1<<20 {
			t.Errorf("%+v: too much was read", c)
		} else {
			n.lanes <- &lane{s: n}
		}
		in.Close()
	}
	f := newFarEnd(t, nil)
	f.tell(func(w http.ResponseWriter, _ *http.Request, _ got) {
		w.Header().Set("X", strings.Repeat("x", maxAnswerHeader))
	})
	in := openSink(t, f, nil)
	if d := deliver(t, in, texts("one")...); d.rolled == nil {
		t.Errorf("an answer with too long a header is %+v", d.fate())
	}
	in.Close()
}

// A server may answer before it has read the request; what the transport still
// reads is not overwritten by the next one (run with -race).
func TestEarlyAnswer(t *testing.T) {
	f := newFarEnd(t, nil)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	in := openSink(t, f, map[string]string{"format": formatLines, "maxRequestBytes": "16m"})
	defer in.Close()
	big := strings.Repeat("x", 8<<20)
	for i := range 5 {
		if d := deliver(t, in, texts(big, fmt.Sprint(i))...); d.rolled == nil {
			t.Errorf("%+v", d.fate())
		}
	}
}

// Redirects are not followed: Flume's client would make a GET of them.
func TestRedirect(t *testing.T) {
	f := newFarEnd(t, nil)
	f.tell(func(w http.ResponseWriter, r *http.Request, _ got) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	in := openSink(t, f, nil)
	defer in.Close()
	if d := deliver(t, in, texts("one")...); d.rolled == nil || len(f.requests()) != 1 {
		t.Errorf("%+v after %d requests", d.fate(), len(f.requests()))
	}
}

// Requests in flight are at most concurrency, and all end when the sink closes.
func TestConcurrency(t *testing.T) {
	f := newFarEnd(t, nil)
	f.tell(f.hang)
	in := openSink(t, f, map[string]string{"concurrency": "3", "requestTimeout": "1h"})
	var all []*delivery
	for i := range 3 {
		all = append(all, hand(t.Context(), t, in.Sink, texts(fmt.Sprint(i))...))
	}
	suite.Eventually(t, "three requests", func() bool { return len(f.requests()) == 3 })
	full, end := context.WithCancel(t.Context())
	end()
	if d := hand(full, t, in.Sink, texts("4")...); d.rolled == nil {
		t.Errorf("%+v", d.fate())
	}
	if err := in.Sink.Flush(full); err == nil {
		t.Error("flushed, with requests in flight")
	}
	if err := in.Sink.Close(full); err != nil {
		t.Error(err)
	}
	for _, d := range all {
		d.wait()
		if d.rolled == nil {
			t.Errorf("%+v", d.fate())
		}
	}
	if n := len(f.requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// Many requests at once lose and repeat nothing.
func TestConcurrentDeliveries(t *testing.T) {
	f := newFarEnd(t, takers[formatLines])
	in := openSink(t, f, map[string]string{"concurrency": "4", "format": formatLines, "compression": "gzip"})
	var all []*delivery
	for i := range 40 {
		all = append(all, hand(t.Context(), t, in.Sink, texts(suite.Bodies(i*50, 50)...)...))
	}
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.fate() != (fate{acked: 50}) {
			t.Errorf("%+v %v", d.fate(), d.rolled)
		}
	}
	in.Close()
	got := f.seen()
	slices.Sort(got)
	if !slices.Equal(got, suite.Bodies(0, 2000)) {
		t.Errorf("%d events", len(got))
	}
}

// pipes is a listener whose connections are in memory, so that time can be a test's own.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	p.conns <- b
	return a, nil
}

// inBubble runs f with a sink whose far end is answer, where time is synctest's.
func inBubble(t *testing.T, keys map[string]string, answer http.HandlerFunc, f func(t *testing.T, s *sink)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: answer}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(p) }()
		in := sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
			all := map[string]string{"endpoint": "http://127.0.0.1/"}
			for k, v := range keys {
				all[k] = v
			}
			return sinktest.Backend{Keys: all}
		}})
		s := in.Sink.(*sink)
		s.transport.DialContext = p.dial
		f(t, s)
		in.Close()
		_ = srv.Close()
		<-served
	})
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name, header string
		keys         map[string]string
		want         time.Duration
	}{
		{"seconds", "7", nil, 7 * time.Second},
		{"date", time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC).Format(http.TimeFormat), nil, time.Minute},
		{"a date that was", "Fri, 31 Dec 1999 23:00:00 GMT", nil, 0},
		{"too long", "4000000000", nil, 5 * time.Minute},
		{"too long, of a key", "60", map[string]string{"maxRetryAfter": "1500"}, 1500 * time.Millisecond},
		{"not heeded", "60", map[string]string{"maxRetryAfter": "0"}, 0},
		{"nonsense", "soon", nil, 0},
		{"none", "", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			busy := true
			inBubble(t, c.keys, func(w http.ResponseWriter, _ *http.Request) {
				if busy {
					w.Header().Set("Retry-After", c.header)
					w.WriteHeader(429)
					busy = false
				}
			}, func(t *testing.T, s *sink) {
				begin := time.Now()
				if d := hand(t.Context(), t, s, texts("one")...); d.rolled == nil || time.Since(begin) != 0 {
					t.Fatalf("%+v after %v", d.fate(), time.Since(begin))
				}
				if d := hand(t.Context(), t, s, texts("one")...); d.fate() != (fate{acked: 1}) || time.Since(begin) != c.want {
					t.Errorf("%+v after %v, want %v", d.fate(), time.Since(begin), c.want)
				}
				s.heed("100")
				ctx, end := context.WithTimeout(t.Context(), time.Second)
				defer end()
				if d := hand(ctx, t, s, texts("two")...); c.name != "not heeded" && d.rolled == nil {
					t.Errorf("a wait does not end with the context: %+v", d.fate())
				}
			})
		})
	}
}

// A far end that hangs costs the two timeouts, and no longer than the agent lives.
//
// flume: TestHttpSinkIT ensureEventsResentOnConnectionTimeout ensureEventsResentOnRequestTimeout
func TestRequestTimeout(t *testing.T) {
	inBubble(t, map[string]string{"connectTimeout": "1000", "requestTimeout": "2500"}, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}, func(t *testing.T, s *sink) {
		begin := time.Now()
		d := hand(t.Context(), t, s, texts("one")...)
		if d.rolled == nil || d.rolled.Error() != "POST http://127.0.0.1/: no answer within 3.5s" || time.Since(begin) != 3500*time.Millisecond {
			t.Errorf("%v after %v", d.rolled, time.Since(begin))
		}
		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		begin = time.Now()
		if d := hand(ctx, t, s, texts("one")...); d.rolled == nil || time.Since(begin) != time.Second {
			t.Errorf("%+v after %v", d.fate(), time.Since(begin))
		}
	})
}

// backoff of an answer that commits pauses as Flume's sink runner does.
func TestBackoffOfCommit(t *testing.T) {
	inBubble(t, map[string]string{"backoff.200": "true"}, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "other" {
			w.WriteHeader(204)
		}
	}, func(t *testing.T, s *sink) {
		for i, want := range []time.Duration{1, 2, 3, 4, 5, 5, 0, 1} {
			begin, body := time.Now(), "one"
			if want == 0 {
				body = "other"
			}
			if d := hand(t.Context(), t, s, texts(body)...); d.fate() != (fate{acked: 1}) || time.Since(begin) != want*time.Second {
				t.Errorf("%d: %+v after %v, want %d s", i, d.fate(), time.Since(begin), want)
			}
		}
	})
}

// TLS: the server's certificate is verified, its name too, and the client has its own to show.
func TestSinkTLS(t *testing.T) {
	server, _ := certificate(t)
	client, clients := certificate(t)
	pair, err := tls.LoadX509KeyPair(server, server)
	if err != nil {
		t.Fatal(err)
	}
	f := newFarEnd(t, takers[formatBody])
	f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	f.StartTLS()
	other := strings.Replace(f.URL, "127.0.0.1", "localhost", 1)
	trusts := map[string]string{"truststore": server, "truststore-type": "PEM", "certificate": client}
	for _, c := range []struct {
		name, endpoint string
		change         map[string]string
		ok             bool
	}{
		{"both are known", f.URL, nil, true},
		{"no client certificate", f.URL, map[string]string{"certificate": ""}, false},
		{"the server is not known", f.URL, map[string]string{"truststore": client}, false},
		{"another name", other, nil, false},
		{"another name, not verified", other, map[string]string{"verify-hostname": "false"}, true},
		{"the server is not known, and taken", f.URL, map[string]string{"truststore": "", "trust-all-certs": "true"}, true},
		{"without TLS", strings.Replace(f.URL, "https", "http", 1), map[string]string{"truststore": "", "certificate": ""}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := map[string]string{"endpoint": c.endpoint}
			for _, m := range []map[string]string{trusts, c.change} {
				for k, v := range m {
					keys[k] = v
				}
			}
			for k, v := range keys {
				if v == "" {
					delete(keys, k)
				}
			}
			in := openSink(t, f, keys)
			defer in.Close()
			d := deliver(t, in, texts("one")...)
			if refused := c.name == "without TLS" && d.fate().refused == 1; d.fate() != (fate{acked: 1}) == c.ok && !refused {
				t.Errorf("%+v, %v", d.fate(), d.rolled)
			}
		})
	}
	s := Sink.New()
	keys := map[string]string{"endpoint": f.URL, "truststore": server, "truststore-type": "PEM", "certificate": "/nowhere/c.pem"}
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := s.Open(t.Context(), openSink(t, f, nil).Env); err == nil {
		t.Error("opened without its certificate")
	}
}
