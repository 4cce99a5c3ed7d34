//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// farEnd is an HTTP server that takes everything, or nothing.
type farEnd struct {
	*httptest.Server
	down atomic.Bool
}

func newFarEnd(t *testing.T) *farEnd {
	f := new(farEnd)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if f.down.Load() {
			http.Error(w, "disk quota exceeded", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// pageRig is an agent of scenarios/page.conf with a browser that looks at it.
type pageRig struct {
	*agent
	*browser
	t           *testing.T
	dir, web    string
	main, spare *farEnd
}

const pageSecret = "not-for-the-page"

func newPageRig(t *testing.T, v vars, flags ...string) pageRig {
	t.Helper()
	dir := workDir(t)
	r := pageRig{t: t, dir: dir, web: port(t), main: newFarEnd(t), spare: newFarEnd(t)}
	all := vars{"E2E_WEB": r.web, "E2E_MAIN": r.main.URL, "E2E_SPARE": r.spare.URL, "E2E_PASSWORD": pageSecret}
	for k, x := range v {
		all[k] = x
	}
	r.agent = newAgent(t, dir, "page.conf", all, append(flags, "--state-dir", filepath.Join(dir, "state"), "--drain-timeout", "1s")...)
	text, err := os.ReadFile("scenarios/page.conf")
	must(t, err)
	r.agent.conf = filepath.Join(dir, "agent.conf")
	write(t, r.agent.conf, string(text))
	r.agent.start()
	r.browser = newBrowser(t)
	return r
}

// feed posts lines, a batch every 50 ms, until stop.
func (r pageRig) feed() (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		every := time.NewTicker(50 * time.Millisecond)
		defer every.Stop()
		for n := 1; ; n++ {
			lines := make([]string, 20)
			for i := range lines {
				lines[i] = fmt.Sprintf("order %d of user-%d password=hunter%d accepted", n*20+i, n, i)
			}
			post("http://127.0.0.1:"+r.web, joined(lines))
			select {
			case <-every.C:
			case <-over:
				return
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// row is what the table says of a component.
func (r pageRig) row(component string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#components tbody tr')].find(tr => tr.cells[0].textContent === %q)?.innerText`, component)
}

const (
	stateText    = `document.getElementById('state').textContent`
	problemsText = `document.getElementById('problems').innerText`
	wide, high   = 1120, 900
)

// TestPageHealthy: the page shows a healthy agent, in both colours, to readers of
// tables too, by the keyboard alone; and its tap hides what is to be hidden.
func TestPageHealthy(t *testing.T) {
	r := newPageRig(t, nil, "--tap", "full", "--tap-redact", `hunter\d+`)
	defer r.feed()()
	r.open("http://"+r.admin+"/", wide, high, false)
	r.shows(stateText, "✓ ready")
	for _, c := range []string{"source web", "source seconds", "channel store", "channel fast", "sink files", "sink main", "sink spare"} {
		r.shows(r.row(c), "✓")
	}
	r.shows(r.row("sink main"), "active")
	r.shows(r.row("sink spare"), "standby")
	r.shows(r.row("source web")+`.split('\t')[3]`, "4") // about 400 a second
	r.shows(`document.querySelectorAll('#flow .box').length`, "7")
	r.shows(`document.querySelectorAll('#flow .edge').length`, "6")
	r.shows(`document.querySelectorAll('#flow .group').length`, "1")

	// The keyboard: the first stop leads past the picture; the tap is reached and used.
	r.eval(`document.body.focus()`)
	r.key("Tab")
	r.shows(`document.activeElement.className`, "skip")
	stops := 0
	for r.eval(`document.activeElement.id`) != "edge" {
		r.key("Tab")
		if stops++; stops > 20 {
			t.Fatal("the tap is not reached by the keyboard")
		}
		if o := r.eval(`getComputedStyle(document.activeElement).outlineStyle`); o == "none" {
			t.Errorf("%s has no sign of focus", r.eval(`document.activeElement.outerHTML.slice(0, 80)`))
		}
	}
	r.eval(`document.activeElement.value = 'web:store'`)
	r.key("Tab")
	r.key("Tab")
	r.key("Enter")
	r.shows(`document.querySelector('#events').innerText`, "password=******")
	if text := r.eval(`document.body.innerText`); strings.Contains(text, "hunter") || strings.Contains(text, pageSecret) {
		t.Error("the page shows a secret")
	}
	r.shows(`document.querySelector('#events').innerText`, "datacenter=east")
	r.shows(`document.querySelector('#config').innerText`, "a1.sinks.main.password")
	r.shows(`document.querySelector('#config').innerText`, "${env:E2E_MAIN")
	r.eval(`new Promise(done => setTimeout(done, 6000))`) // the rates are over as many seconds
	r.picture("page-healthy")
	contrast(t, r.browser, "light")
	r.open("http://"+r.admin+"/", wide, high, true)
	r.shows(stateText, "✓ ready")
	contrast(t, r.browser, "dark")
	r.eval(`new Promise(done => setTimeout(done, 3000))`)
	r.picture("page-dark")
	named(t, r.browser)
	r.quiet()
}

// TestPageBlocked: a sink that cannot write fills its channel, which blocks its source.
func TestPageBlocked(t *testing.T) {
	r := newPageRig(t, vars{"E2E_CAPACITY": "400"})
	blocked(t, filepath.Join(r.dir, "out"))
	defer r.feed()()
	r.open("http://"+r.admin+"/", wide, high, false)
	r.shows(r.row("channel store"), "full")
	r.shows(r.row("channel store"), "100 %")
	r.shows(r.row("sink files"), "failing")
	r.shows(r.row("source web"), "blocked: store full")
	r.shows(r.row("channel store")+`.split('\t')[6]`, " s")
	r.shows(problemsText, "sink files:")
	r.shows(problemsText, "channel store: full")
	r.shows(stateText, "✕")
	r.eval(`new Promise(done => setTimeout(done, 5000))`)
	r.picture("page-blocked")
	contrast(t, r.browser, "blocked")
	// The same in a terminal.
	out, _, code := millrace(t, nil, "top", "--admin", r.admin, "-n", "1")
	if code != 0 || !strings.Contains(out, "full") || !strings.Contains(out, "100%") || !strings.Contains(out, "failing") {
		t.Errorf("top: %d\n%s", code, out)
	}
	if _, stderr, code := millrace(t, nil, "tap", "--admin", r.admin, "web:store"); code != 1 || !strings.Contains(stderr, "--tap full") {
		t.Errorf("tap, which is off: %d %s", code, stderr)
	}
	r.quiet()
}

// TestPageFailing: both sinks of a group fail, and a reload that is not valid is told with its line.
func TestPageFailing(t *testing.T) {
	r := newPageRig(t, nil, "--no-reload-conf=false")
	defer r.feed()()
	r.main.down.Store(true)
	r.spare.down.Store(true)
	text, err := os.ReadFile(r.agent.conf)
	must(t, err)
	bad := strings.Replace(string(text), "sinks.files.sink.directory", "sinks.files.sink.directroy", 1)
	place := "agent.conf:" + strconv.Itoa(strings.Count(bad[:strings.Index(bad, "directroy")], "\n")+1)
	write(t, r.agent.conf, bad)
	r.open("http://"+r.admin+"/", wide, high, false)
	r.shows(r.row("sink main"), "failing")
	r.shows(r.row("sink spare"), "failing")
	r.shows(r.row("sink files"), "✓ good")
	r.shows(problemsText, "group far: ")
	r.shows(problemsText, "the last reload failed")
	r.shows(`document.getElementById('reload').innerText`, "not taken")
	r.shows(`document.getElementById('reload').innerText`, place)
	r.shows(`document.getElementById('reload').innerText`, "did you mean sink.directory?")
	r.eval(`new Promise(done => setTimeout(done, 4000))`)
	r.picture("page-failing")
	contrast(t, r.browser, "failing")
	// It is put right: what the reload did is shown, and the failure is gone.
	write(t, r.agent.conf, strings.Replace(string(text), "sources.web.interceptors.where.value = east", "sources.web.interceptors.where.value = west", 1))
	r.shows(`document.getElementById('reload').innerText`, "changed source web")
	r.shows(`document.querySelector('#config').innerText`, "west")
	r.main.down.Store(false)
	r.spare.down.Store(false)
	r.shows(stateText, "✓ ready")
	r.quiet()
}

// TestPageToken: under a name that is not the loopback's the page asks for the token before it shows anything.
func TestPageToken(t *testing.T) {
	r := newPageRig(t, nil, "--admin-token", "open-sesame")
	_, host, _ := strings.Cut(r.admin, ":")
	r.open("http://agent.test:"+host+"/", wide, high, false)
	r.shows(stateText, "a token is needed")
	r.shows(`document.activeElement.id`, "token")
	if text := r.eval(`document.body.innerText`); strings.Contains(text, "store") {
		t.Errorf("the page shows the agent without a token:\n%s", text)
	}
	r.browser.write("wrong")
	r.key("Enter")
	r.shows(stateText, "a token is needed")
	r.eval(`document.getElementById('token').value = ''`)
	r.browser.write("open-sesame")
	r.key("Enter")
	r.shows(stateText, "✓ ready")
	r.shows(`document.getElementById('login').hidden`, "true")
}

// contrast checks all texts that are seen, as WCAG 2 reckons (AA: 4.5).
func contrast(t *testing.T, b *browser, what string) {
	t.Helper()
	if poor := b.eval(`(() => {
		const rgb = c => (c.match(/[\d.]+/g) || []).map(Number);
		const light = c => { const [r, g, b] = rgb(c).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
		const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
		const poor = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		for (let n; n = walk.nextNode();) {
			const e = n.parentElement;
			if (!n.textContent.trim() || !e.getClientRects().length || e.closest('title, option')) continue;
			const box = e.closest('g')?.querySelector('.box'), s = getComputedStyle(e);
			const a = light(e instanceof SVGElement ? s.fill : s.color), b = light(box ? getComputedStyle(box).fill : back(e));
			const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			if (ratio < 4.5) poor.push(n.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(1));
		}
		return [...new Set(poor)].join('; ');
	})()`); poor != "" {
		t.Errorf("%s: poor contrast: %s", what, poor)
	}
}

// named checks that what a screen reader stops at has a name.
func named(t *testing.T, b *browser) {
	t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	found := map[string]int{}
	for _, n := range tree.Nodes {
		role := fmt.Sprint(n.Role.Value)
		if n.Ignored {
			continue
		}
		found[role]++
		switch role {
		case "button", "combobox", "spinbutton", "checkbox", "table", "image", "region", "heading", "columnheader", "rowheader":
			if name, _ := n.Name.Value.(string); name == "" {
				t.Errorf("a %s has no name", role)
			}
		}
	}
	for _, role := range []string{"table", "columnheader", "rowheader", "status", "image", "button"} {
		if found[role] == 0 {
			t.Errorf("there is no %s: %v", role, found)
		}
	}
}
