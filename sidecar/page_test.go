package sidecar

import (
	"bufio"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core/suite"
)

// flow is an agent that always has something to do, once a second or so.
const flow = `a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = exec
a1.sources.r.shell = /bin/sh -c
a1.sources.r.command = while echo user=joe pin=1234; do sleep 0.05; done
a1.sources.r.channels = c
a1.sources.r.interceptors = i
a1.sources.r.interceptors.i.type = static
a1.sources.r.interceptors.i.key = auth
a1.sources.r.interceptors.i.value = pin=77
a1.sources.r.colour = blue
a1.channels.c.type = memory
a1.sinks.k.type = null
a1.sinks.k.channel = c
`

func TestPageIsServed(t *testing.T) {
	r := start(t, "-f", write(t, "a.conf", flow)).ready()
	total := 0
	for path, typ := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		answer, err := http.Get("http://" + r.admin() + path)
		if err != nil {
			t.Fatal(err)
		}
		text := read(t, answer)
		total += len(text)
		h := answer.Header
		if answer.StatusCode != 200 || !strings.HasPrefix(h.Get("Content-Type"), typ) || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, answer.StatusCode, h)
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		// It is readable without a network, and has no script that the policy would stop.
		if bad := regexp.MustCompile(`https?://[^w]|<script>|\son\w+=|style="`).FindString(text); bad != "" {
			t.Errorf("%s holds %q", path, bad)
		}
	}
	if total > 60_000 {
		t.Errorf("the page has %d bytes", total)
	}
}

// While nobody looks nothing is done for it; whoever looks sees the state each second.
func TestEvents(t *testing.T) {
	r := start(t, "-f", write(t, "a.conf", flow)).ready()
	answer, err := http.Get("http://" + r.admin() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	if typ := answer.Header.Get("Content-Type"); typ != "text/event-stream" {
		t.Errorf("type %q", typ)
	}
	lines := bufio.NewReader(answer.Body)
	for n := 0; n < 2; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var st shownStatus
			if err := json.Unmarshal([]byte(data), &st); err != nil || st.Agent != "a1" || len(st.Sinks) != 1 {
				t.Fatalf("%v: %s", err, data)
			}
			n++
		}
	}
	// A stream does not hold up the end.
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	_ = answer.Body.Close()
}

func TestStreamsAreCounted(t *testing.T) {
	s := &adminServer{over: make(chan struct{})}
	w := new(recorder)
	var ends []func()
	for range mostStreams {
		_, end, ok := s.openStream(w, "x/y")
		if !ok {
			t.Fatal("refused")
		}
		ends = append(ends, end)
	}
	if _, _, ok := s.openStream(w, "x/y"); ok || w.code != http.StatusServiceUnavailable {
		t.Errorf("one too many is taken, with %d", w.code)
	}
	for _, end := range ends {
		end()
	}
	if n := s.streams.Load(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

type recorder struct{ code int }

func (r *recorder) Header() http.Header         { return http.Header{} }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(code int)        { r.code = code }

func TestTapStream(t *testing.T) {
	file := write(t, "a.conf", flow)
	for _, c := range []struct {
		mode       string
		want, hide []string
	}{
		{"full", []string{`"edge":"r:c"`, `"body":"user=joe ******"`, `"auth":"******"`, `"bytes":17`}, []string{"1234", "77"}},
		{"headers", []string{`"auth":"******"`, `"bytes":17`}, []string{"joe", "1234", "77", "body", "base64"}},
	} {
		t.Run(c.mode, func(t *testing.T) {
			r := start(t, "-f", file, "--tap", c.mode, "--tap-redact", `pin=\d+`).ready()
			code, out, errs := call(t, nil, "tap", "--admin", r.admin(), "--count", "2", "--rate", "50", "r:c")
			if code != exitOK || strings.Count(out, "\n") != 2 {
				t.Fatalf("%d %s %s", code, out, errs)
			}
			out = regexp.MustCompile(`"time":"[^"]*",`).ReplaceAllString(out, "") // it has any digits
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("no %s in %s", w, out)
				}
			}
			for _, h := range c.hide {
				if strings.Contains(out, h) {
					t.Errorf("%s in %s", h, out)
				}
			}
			if code, _, errs := call(t, nil, "tap", "--admin", r.admin(), "x:y"); code != exitFailed || !strings.Contains(errs, "there are: r:c c:k") {
				t.Errorf("an edge that is not there: %d %s", code, errs)
			}
			for _, q := range []string{"rate=0", "rate=x", "bytes=1000000"} {
				if got := r.get("/tap?" + q); !strings.Contains(got, "is a number from") {
					t.Errorf("%s: %s", q, got)
				}
			}
		})
	}
	r := start(t, "-f", file).ready()
	if code, _, errs := call(t, nil, "tap", "--admin", r.admin()); code != exitFailed || !strings.Contains(errs, "the tap is off: start the agent with --tap full") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestTapVeils(t *testing.T) {
	long := strings.Repeat("ä", 20)
	o := tapOptions{mode: tapFull, redact: []*regexp.Regexp{regexp.MustCompile("secret")}}
	for _, c := range []struct {
		body   []byte
		show   int
		text   string
		binary int
		cut    bool
	}{
		{[]byte("a secret b"), 100, "a ****** b", 0, false},
		{[]byte("a secret b"), 4, "a **", 0, true},
		{[]byte(long), 7, "äää", 0, true},
		{[]byte{0xff, 0xfe, 1}, 100, "", 3, false},
		{nil, 100, "", 0, false},
	} {
		one := tapped{Bytes: len(c.body), Base64: c.body}
		o.veil(&one, c.show)
		text := ""
		if one.Body != nil {
			text = *one.Body
		}
		if text != c.text || len(one.Base64) != c.binary || one.Cut != c.cut {
			t.Errorf("%q, %d: %q %v %v", c.body, c.show, text, one.Base64, one.Cut)
		}
	}
}

// The sample is spread over a batch, and no more than the rate in a second.
func TestSamplerRate(t *testing.T) {
	s := &sampler{rate: 5, seen: make(map[string]*edgeCount)}
	at := time.Unix(100, 0)
	for _, c := range []struct {
		n, show int
		passed  int64
		after   time.Duration
	}{{3, 3, 3, 0}, {10, 2, 13, 0}, {10, 0, 23, 0}, {10, 5, 33, time.Second}} {
		at = at.Add(c.after)
		if show, passed := s.due("a:b", c.n, at); show != c.show || passed != c.passed {
			t.Errorf("%+v: %d of %d", c, show, passed)
		}
	}
}

func TestConfigView(t *testing.T) {
	file := write(t, "a.conf", flow+"a1.sinks.k.password = sesame\na1.sinks.k.batchSize = ${env:SIZE:-7}\n")
	r := start(t, "-f", file).ready()
	var v struct {
		Agent  string
		Lines  []configLine
		Faults []struct {
			Line                int
			Key, Hint, Severity string
		}
	}
	text := r.get("/config")
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "sesame") {
		t.Error("a secret is shown")
	}
	find := func(key string) configLine {
		for _, l := range v.Lines {
			if l.Key == key {
				return l
			}
		}
		t.Errorf("no %s in %s", key, text)
		return configLine{}
	}
	if l := find("sinks.k.password"); l.Value != "******" || l.Line != 16 || l.File != file {
		t.Errorf("%+v", l)
	}
	if l := find("sinks.k.batchSize"); l.Value != "${env:SIZE:-7}" {
		t.Errorf("%+v", l)
	}
	if l := find("channels.c.capacity"); !l.Default || l.Value == "" || l.Line != 0 {
		t.Errorf("%+v", l)
	}
	if l := find("sources.r.interceptors.i.value"); l.Value != "pin=77" {
		t.Errorf("%+v", l)
	}
	found := false
	for _, f := range v.Faults {
		found = found || f.Line == 12 && f.Key == "a1.sources.r.colour" && f.Severity == "warning"
	}
	if !found {
		t.Errorf("the warning is not told: %+v", v.Faults)
	}
}

func TestTop(t *testing.T) {
	r := start(t, "-f", write(t, "a.conf", flow)).ready()
	r.delivered("k", 1)
	code, out, errs := call(t, nil, "top", "--admin", r.admin(), "-n", "2", "-i", "300ms")
	if code != exitOK || strings.Contains(out, "\x1b") {
		t.Fatalf("%d %q %s", code, out, errs)
	}
	first, second, _ := strings.Cut(out, "\n\n")
	for _, want := range []string{"agent a1: ready", "source   r                exec           running", "channel  c                memory         good", "sink     k                null           good", "-> c", "<- c"} {
		if !strings.Contains(first, want) || !strings.Contains(second, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if rate := regexp.MustCompile(`(?m)^source +r +exec +running +([\d.]+) +\d+`); rate.MatchString(first) && !rate.MatchString(second) {
		t.Errorf("rates are there from the second on:\n%s", out)
	}
	if code, _, errs := call(t, nil, "top", "--admin", "127.0.0.1:"+freePort(t)); code != exitFailed || !strings.Contains(errs, "refused") {
		t.Errorf("nobody there: %d %s", code, errs)
	}
	suite.Eventually(t, "lines are cut to the terminal", func() bool {
		st := &topStatus{}
		st.Agent = strings.Repeat("x", 100)
		text := topText(nil, st, 40)
		return len(strings.Split(text, "\n")[0]) == 40
	})
}
