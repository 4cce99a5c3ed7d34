package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core/suite"
)

// reloaded waits until that many reloads are over.
func (r *running) reloaded(n int64) shownStatus {
	r.t.Helper()
	var st shownStatus
	suite.Eventually(r.t, "reload", func() bool {
		st = r.status()
		return st.Reload.OK+st.Reload.Failed >= n
	})
	return st
}

// What people do to a configuration, and what the agent makes of it.
func TestReload(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() { suite.NoLeaks(t, before) })
	file := write(t, "a.conf", small)
	r := start(t, "-f", file).ready()
	r.delivered("k1", 10)

	replace(t, file, small+"a1.sinks.k1.batchSize = 7\n")
	if st := r.reloaded(1); st.Reload.Last.Result != reloadOK || strings.Join(st.Reload.Last.Changed, " ") != "sink k1" ||
		strings.Join(st.Reload.Last.Kept, ", ") != "channel c1, source r1" {
		t.Errorf("a changed sink: %+v", st.Reload.Last)
	}
	r.says(`msg="configuration reloaded" agent=a1 trigger=change`)

	replace(t, file, small+"a1.sinks.k1.channel = nowhere\n")
	if st := r.reloaded(2); st.Reload.Last.Result != reloadFailed || len(st.Reload.Last.Faults) == 0 ||
		st.Reload.Last.Faults[0].Line != strings.Count(small, "\n")+1 || st.Reload.Last.Faults[0].Key != "a1.sinks.k1.channel" {
		t.Errorf("an invalid file: %+v", st.Reload.Last)
	}
	r.says("everything goes on as before")

	replace(t, file, strings.ReplaceAll(small, "a1.", "a2."))
	if st := r.reloaded(3); st.Reload.Last.Result != reloadFailed || !strings.Contains(st.Reload.Last.Faults[0].Message, "no agent of this name, but has a2") {
		t.Errorf("another agent's file: %+v", st.Reload.Last)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if st := r.reloaded(4); st.Reload.Last.Result != reloadFailed || len(st.Sinks) != 1 || !st.Ready {
		t.Errorf("no file: %+v", st)
	}
	if text := r.get("/metrics"); !strings.Contains(text, `millrace_reloads_total{result="failed"} 3`) ||
		!strings.Contains(text, `millrace_reloads_total{result="ok"} 1`) || !strings.Contains(text, "millrace_reload_last_good 0") {
		t.Errorf("metrics: %s", text)
	}

	// Nothing differs from what is at work.
	replace(t, file, small+"# a comment\na1.sinks.k1.batchSize = 7\n")
	if st := r.reloaded(5); st.Reload.Last.Result != reloadOK || len(st.Reload.Last.Kept) != 3 {
		t.Errorf("a comment: %+v", st.Reload.Last)
	}
	r.says("configuration reloaded: nothing differs")
	r.signals <- syscall.SIGHUP
	if st := r.reloaded(6); st.Reload.Last.Trigger != bySignal || !st.Ready {
		t.Errorf("a signal: %+v", st.Reload.Last)
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, r.err)
	}
}

// An editor at work: what is written in pieces is read when it is whole.
func TestReloadOfAHalfWrittenFile(t *testing.T) {
	file := write(t, "a.conf", small)
	r := start(t, "-f", file).ready()
	text := small + strings.Repeat("# filling\n", 100) + "a1.sinks.k1.batchSize = 7\n"
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(text, "\n") {
		if _, err := io.WriteString(f, part+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// On a slow machine a part of it may be read before, and that may differ in more.
	suite.Eventually(t, "the whole file is read", func() bool { return slices.Contains(r.status().Reload.Last.Changed, "sink k1") })
	if st := r.status(); len(st.Sources) != 1 || !st.Ready {
		t.Errorf("%+v", st)
	}
}

// Kubernetes changes a ConfigMap by one link that the files' links lead through.
func TestReloadOfAConfigMap(t *testing.T) {
	dir := t.TempDir()
	volume := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "a.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, "..data_tmp")
		if err := errors.Join(os.Symlink(name, next), os.Rename(next, filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	volume("..1", small)
	file := filepath.Join(dir, "a.conf")
	if err := os.Symlink(filepath.Join("..data", "a.conf"), file); err != nil {
		t.Fatal(err)
	}
	r := start(t, "-f", file).ready()
	for i, text := range []string{"7", "8"} {
		volume("..2"+text, small+"a1.sinks.k1.batchSize = "+text+"\n")
		if st := r.reloaded(int64(i + 1)); st.Reload.Last.Result != reloadOK || len(st.Reload.Last.Changed) != 1 {
			t.Errorf("%+v", st.Reload.Last)
		}
		if err := os.RemoveAll(filepath.Join(dir, map[string]string{"7": "..1", "8": "..27"}[text])); err != nil {
			t.Fatal(err)
		}
	}
}

// Where the system tells of no changes they are found all the same.
func TestReloadByPolling(t *testing.T) {
	file := write(t, "a.conf", small)
	r := startDeaf(t, "--poll-interval", "1", "-f", file).ready()
	replace(t, file, small+"a1.sinks.k1.batchSize = 7\n")
	if st := r.reloaded(1); st.Reload.Last.Result != reloadOK {
		t.Errorf("%+v", st.Reload.Last)
	}
}

func TestReloadSwitchedOff(t *testing.T) {
	file := write(t, "a.conf", small)
	r := start(t, "--no-reload-conf", "-f", file).ready()
	r.signals <- syscall.SIGHUP
	r.says("--no-reload-conf")
	if st := r.status(); st.Reload.OK+st.Reload.Failed > 0 {
		t.Errorf("%+v", st.Reload)
	}
}

// A lenient start leaves a faulty component out; a reload takes none away that works.
//
// flume: TestConfig testConfigReload
func TestReloadLeniently(t *testing.T) {
	file := write(t, "a.conf", small)
	r := start(t, "--lenient", "-f", file).ready()
	broken := strings.Replace(small, "a1.sinks.k1.type = ", "a1.sinks.k1.typ = ", 1)
	replace(t, file, broken)
	if st := r.reloaded(1); st.Reload.Last.Result != reloadFailed || len(st.Sinks) != 1 {
		t.Errorf("%+v", st.Reload.Last)
	}
	r.stop()
	r = start(t, "--lenient", "-f", file).ready() // it is without its sink
	replace(t, file, broken+"a1.channels.c1.capacity = 777\n")
	if st := r.reloaded(1); st.Reload.Last.Result != reloadOK || strings.Join(st.Reload.Last.Changed, " ") != "channel c1" {
		t.Errorf("%+v", st.Reload.Last)
	}
	replace(t, file, small) // the sink is well again, and gets all
	if st := r.reloaded(2); st.Reload.Last.Result != reloadOK || strings.Join(st.Reload.Last.Added, " ") != "sink k1" {
		t.Errorf("%+v", st.Reload.Last)
	}
	r.delivered("k1", 10)
}

// What changed between the reading of the files and the watch is looked for at once.
func TestWatchBeginsWithALook(t *testing.T) {
	w := newWatch([]string{write(t, "a.conf", small)}, false, slog.New(slog.DiscardHandler))
	defer w.close()
	select {
	case <-w.changed():
	default:
		t.Error("nothing is told")
	}
}

// A port that another program has: the source that was there goes on, and its clients notice nothing.
func TestReloadToATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, taken, _ := net.SplitHostPort(l.Addr().String())
	port := freePort(t)
	text := strings.NewReplacer("= seq", "= netcat", "a1.sources.r1.totalEvents = 10", "a1.sources.r1.bind = 127.0.0.1").Replace(small)
	file := write(t, "a.conf", text+"a1.sources.r1.port = "+port+"\n")
	r := start(t, "-f", file).ready()
	replace(t, file, text+"a1.sources.r1.port = "+taken+"\n")
	if st := r.reloaded(1); st.Reload.Last.Result != reloadPartial || !strings.Contains(st.Reload.Last.Faults[0].Message, "the one before goes on") {
		t.Errorf("%+v", st.Reload.Last)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer := make([]byte, 3)
	if _, err := io.WriteString(c, "x\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "OK\n" {
		t.Errorf("%q %v", answer, err)
	}
}

// A socket is handed over with whoever waits on it, also while somebody accepts.
func TestSocketsAreHandedOver(t *testing.T) {
	var pool sockets
	dir := t.TempDir()
	for _, c := range []struct{ network, addr string }{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(dir, "s")}} {
		old, err := pool.Listen(c.network, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() {
			_, err := old.Accept()
			accepted <- err
		}()
		end := pool.Handover()
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the old one says %v", err)
		}
		if err := old.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
		client, err := net.Dial(c.network, old.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		next, err := pool.Listen(c.network, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if next.Addr().String() != old.Addr().String() {
			t.Errorf("another address: %v", next.Addr())
		}
		conn, err := next.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		end()
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if c, err := net.Dial(c.network, old.Addr().String()); err == nil {
			c.Close()
			t.Error("it is open after the end")
		}
	}
}

// What nobody takes is closed, and makes way for a wider address.
func TestSocketsThatNobodyTakes(t *testing.T) {
	var pool sockets
	end := pool.Handover()
	old, err := pool.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(old.Addr().String())
	old.Close()
	narrow, err := pool.Listen("tcp", "127.0.0.1:"+port) // another name of the same place
	if err == nil {
		t.Error("taken twice")
		narrow.Close()
	}
	end()
	if _, err := new(net.Dialer).DialContext(context.Background(), "tcp", "127.0.0.1:"+port); err == nil {
		t.Error("it is still open")
	}

	first, err := pool.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	end = pool.Handover()
	defer end()
	first.Close()
	wide, err := pool.Listen("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	wide.Close()
}

func TestPacketSocketsAreHandedOver(t *testing.T) {
	var pool sockets
	for _, c := range []struct{ network, addr string }{{"udp", "127.0.0.1:0"}, {"unixgram", filepath.Join(t.TempDir(), "s")}} {
		old, err := pool.ListenPacket(c.network, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		end := pool.Handover()
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		client, err := net.Dial(c.network, old.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := io.WriteString(client, "x"); err != nil {
			t.Error(err)
		}
		next, err := pool.ListenPacket(c.network, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		end()
		if n, _, err := next.ReadFrom(make([]byte, 9)); n != 1 || err != nil {
			t.Errorf("%d %v", n, err)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}
}
