package sidecar

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core/suite"
)

func (r *running) drainz(method, query string, header ...string) (report drainReport, code int) {
	r.t.Helper()
	q, err := http.NewRequest(method, "http://"+r.admin()+"/drainz"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	text := read(r.t, answer)
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		report.Msg = text
	}
	return report, answer.StatusCode
}

// holds is an agent with n events in a channel that its sink cannot get rid of.
func holds(t *testing.T, kind string, args ...string) (r *running, unblock func()) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	r = start(t, append([]string{"--state-dir", dir, "-f", write(t, "a.conf", `a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = seq
a1.sources.r.totalEvents = 20
a1.sources.r.channels = c
a1.channels.c.type = `+kind+`
a1.channels.c.checkpointDir = `+dir+`/checkpoint
a1.channels.c.dataDirs = `+dir+`/data
a1.channels.c.minimumRequiredSpace = 1000000
a1.sinks.k.type = http
a1.sinks.k.channel = c
a1.sinks.k.endpoint = http://127.0.0.1:`+port+`
`)}, args...)...).ready()
	suite.Eventually(t, "the events wait", func() bool {
		st := r.status()
		return len(st.Channels) == 1 && st.Channels[0].Events == 20
	})
	return r, func() {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		far := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
		far.Start()
		t.Cleanup(far.Close)
	}
}

// A GET tells and begins nothing.
func TestDrainzTells(t *testing.T) {
	r, _ := holds(t, "file", "--drain-timeout", "1ms")
	if d, code := r.drainz("GET", ""); code != 200 || d.Msg != drainNone || d.Kept != 20 || d.Lost != 0 || len(d.Left) != 1 {
		t.Errorf("%d %+v", code, d)
	}
	if d, code := r.drainz("GET", "?wait=10ms"); code != 503 || d.Msg != drainNone {
		t.Errorf("%d %+v", code, d)
	}
	for _, wait := range []string{"x", "-1s", "48h"} {
		if d, code := r.drainz("GET", "?wait="+wait); code != 400 {
			t.Errorf("%s: %d %+v", wait, code, d)
		}
	}
	// A web page may not begin one, whatever name it has for this machine.
	for _, h := range [][]string{{"Origin", "https://elsewhere.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		if _, code := r.drainz("POST", "", h...); code != http.StatusForbidden {
			t.Errorf("%v: %d", h, code)
		}
	}
	if r.status().Draining {
		t.Error("it drains")
	}
}

// Who waits hears of the end of a drain that a signal began, before the process is gone.
func TestDrainzWaitsForASignal(t *testing.T) {
	r, _ := holds(t, "file", "--drain-timeout", "300ms")
	heard := make(chan drainReport, 1)
	go func() {
		d, _ := r.drainz("GET", "?wait=30s")
		heard <- d
	}()
	suite.Eventually(t, "somebody waits", func() bool { return strings.Contains(r.get("/status"), `"msg": "running"`) })
	r.signals <- syscall.SIGTERM
	code, out, errs := call(t, nil, "drain", "--wait-only", "--admin", r.admin(), "--timeout", "30s")
	if code != exitOK || !strings.Contains(out, `"msg":"drained"`) || !strings.Contains(out, `"kept":20`) {
		t.Errorf("drain: %d %s %s", code, out, errs)
	}
	if d := <-heard; d.Msg != drainEnded || d.Kept != 20 {
		t.Errorf("%+v", d)
	}
	if code := <-r.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	r.code <- exitOK
	r.once.Do(func() {})
}

// The command begins a drain, waits, and says what is left; the process stays until its signal.
func TestDrainCommand(t *testing.T) {
	r, unblock := holds(t, "memory", "--drain-timeout", "1m")
	unblock()
	code, out, errs := call(t, nil, "drain", "--admin", r.admin())
	if code != exitOK || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"msg":"drained","agent":"a1","kept":0,"lost":0,"left":[]`) {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if err := ask(r.admin(), "/healthz", time.Second); err != nil {
		t.Errorf("the process has ended: %v", err)
	}
	if err := ask(r.admin(), "/readyz", time.Second); err == nil {
		t.Error("it is ready after its drain")
	}
	if d, code := r.drainz("GET", ""); code != 200 || d.Msg != drainEnded {
		t.Errorf("%d %+v", code, d)
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// What is lost is told by the code as well.
func TestDrainCommandTellsOfLoss(t *testing.T) {
	r, _ := holds(t, "memory", "--drain-timeout", "50ms")
	code, out, errs := call(t, nil, "drain", "--admin", r.admin())
	if code != exitFailed || !strings.Contains(out, `"kept":0,"lost":20`) {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code := r.stop(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

// While a drain that was asked for goes on, the first signal lets the process end after it; the second cuts it short.
func TestSignalsAfterDrainz(t *testing.T) {
	r, _ := holds(t, "file", "--drain-timeout", "1h")
	if d, code := r.drainz("POST", ""); code != http.StatusAccepted || d.Msg == drainEnded {
		t.Errorf("%d %+v", code, d)
	}
	suite.Eventually(t, "draining", func() bool { return r.status().Draining })
	if d, code := r.drainz("POST", "?wait=10ms"); code != 503 || d.Msg != drainBegun || d.Kept != 20 {
		t.Errorf("%d %+v", code, d)
	}
	r.signals <- syscall.SIGTERM
	if d, code := r.drainz("GET", "?wait=50ms"); code != 503 || d.Msg != drainBegun {
		t.Errorf("after a signal: %d %+v", code, d)
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if l := r.lastLine(); l.Kept != 20 {
		t.Errorf("%+v", l)
	}
}
