//go:build e2e

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browser is a Chromium without a window, driven by its DevTools protocol over
// a pair of pipes: messages of JSON with a NUL at the end.
type browser struct {
	t       *testing.T
	to      *os.File
	session string // of the one page
	ended   chan struct{}

	mu      sync.Mutex
	next    int
	waiting map[int]chan answer
	wrong   []string // what the page's console complained of
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

type object = map[string]any

func newBrowser(t *testing.T) *browser {
	t.Helper()
	hisIn, to, err := os.Pipe()
	must(t, err)
	from, hisOut, err := os.Pipe()
	must(t, err)
	c := exec.Command("chromium", "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP agent.test 127.0.0.1", "about:blank")
	c.ExtraFiles = []*os.File{hisIn, hisOut}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	must(t, c.Start())
	hisIn.Close()
	hisOut.Close()
	b := &browser{t: t, to: to, ended: make(chan struct{}), waiting: make(map[int]chan answer)}
	go b.read(from)
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // with its children
		_ = c.Wait()                                      // killed, so it says
		<-b.ended
		to.Close()
	})
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", object{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) read(from *os.File) {
	defer close(b.ended)
	defer from.Close()
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			answer
		}
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			if c := b.waiting[m.ID]; c != nil {
				delete(b.waiting, m.ID)
				c <- m.answer
			}
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`):
			b.wrong = append(b.wrong, string(m.Params))
		}
		b.mu.Unlock()
	}
}

func (b *browser) call(method string, params object, result any) {
	b.t.Helper()
	if params == nil {
		params = object{}
	}
	b.mu.Lock()
	b.next++
	m := object{"id": b.next, "method": method, "params": params}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	c := make(chan answer, 1)
	b.waiting[b.next] = c
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	b.mu.Unlock()
	must(b.t, err)
	select {
	case a := <-c:
		if a.Error != nil {
			b.t.Fatalf("%s: %s", method, a.Error.Message)
		}
		if result != nil {
			must(b.t, json.Unmarshal(a.Result, result))
		}
	case <-b.ended:
		b.t.Fatalf("%s: the browser has ended", method)
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
}

func (b *browser) open(url string, wide, high int, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Emulation.setDeviceMetricsOverride", object{"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Page.navigate", object{"url": url}, nil)
}

// eval is what an expression of JavaScript is in the page, as text.
func (b *browser) eval(js string) string {
	b.t.Helper()
	text, wrong := b.try(js)
	if wrong != "" {
		b.t.Fatalf("%s: %s", js, wrong)
	}
	return text
}

// try is eval for what may not be there yet.
func (b *browser) try(js string) (text, wrong string) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	b.call("Runtime.evaluate", object{"expression": js, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		return "", r.ExceptionDetails.Exception.Description
	}
	return fmt.Sprint(r.Result.Value), ""
}

// shows waits until an expression is a text that holds want.
func (b *browser) shows(js, want string) {
	b.t.Helper()
	last := ""
	end := time.Now().Add(patience)
	for every := time.NewTicker(50 * time.Millisecond); ; <-every.C {
		var wrong string
		if last, wrong = b.try("String(" + js + ")"); wrong == "" && strings.Contains(last, want) {
			every.Stop()
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s is %q %s, and never %q", js, last, wrong, want)
		}
	}
}

// key presses one, as a person would.
func (b *browser) key(name string) {
	b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13}
	down := object{"type": "keyDown", "key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
	if name == "Enter" {
		down["text"] = "\r"
	}
	b.call("Input.dispatchKeyEvent", down, nil)
	b.call("Input.dispatchKeyEvent", object{"type": "keyUp", "key": name, "code": name, "windowsVirtualKeyCode": codes[name]}, nil)
}

// write types a text.
func (b *browser) write(text string) {
	b.t.Helper()
	b.call("Input.insertText", object{"text": text}, nil)
}

// picture takes one of the window into MILLRACE_E2E_SHOTS, where that is named, for
// people to look at: docs has some.
func (b *browser) picture(name string) {
	b.t.Helper()
	var r struct{ Data string }
	b.call("Page.captureScreenshot", object{"format": "png"}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	must(b.t, err)
	if len(png) < 5000 {
		b.t.Errorf("the picture %s is empty: %d bytes", name, len(png))
	}
	if dir := os.Getenv("MILLRACE_E2E_SHOTS"); dir != "" {
		must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), smaller(b.t, png), 0o644))
	}
}

// quiet fails the test where the console has errors, a breach of the page's policy among them.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		b.t.Errorf("the browser complains: %s", w)
	}
}
