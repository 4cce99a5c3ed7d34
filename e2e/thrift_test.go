//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// thriftWays are those of scenarios/thrift.conf.
var thriftWays = []string{"compact", "binary", "tls"}

// thriftEnv is what scenarios/thrift.conf asks for, with ports that are free.
func thriftEnv(t *testing.T, dir string, batch int) vars {
	if out, err := serviceErr(nil, "certs.sh"); err != nil {
		t.Fatalf("certs.sh: %v\n%s", err, out)
	}
	v := vars{"E2E_DIR": dir, "E2E_CERTS": certs(), "E2E_BATCH": strconv.Itoa(batch)}
	for _, w := range thriftWays {
		v["E2E_"+strings.ToUpper(w)] = port(t)
		must(t, os.MkdirAll(filepath.Join(dir, "out", w), 0o755))
	}
	return v
}

// TestThrift: every line arrives once and in order, from a real Flume and at one,
// in both protocols and over TLS, in small batches and large ones.
func TestThrift(t *testing.T) {
	for _, batch := range []int{1, 100, 10000} {
		n := pick(2000, 20000)
		if batch > 1 {
			n = pick(12000, 300000)
		}
		sent := lines("thrift", n)
		check := func(t *testing.T, dir string) {
			t.Helper()
			for _, w := range thriftWays {
				out := filepath.Join(dir, "out", w)
				flow(t, out, n)
				same(t, w, sent, rolled(t, out))
			}
		}
		t.Run(fmt.Sprintf("from Flume, batches of %d", batch), func(t *testing.T) {
			dir := workDir(t)
			v := thriftEnv(t, dir, batch)
			newAgent(t, dir, "thrift.conf", v, "-n", "a2").start()
			write(t, filepath.Join(dir, "in/lines.log"), joined(sent))
			flume(t, "thrift.conf", v)
			check(t, dir)
		})
		t.Run(fmt.Sprintf("to Flume, batches of %d", batch), func(t *testing.T) {
			dir := workDir(t)
			v := thriftEnv(t, dir, batch)
			startFlume(t, v, "a2", "thrift.conf", v["E2E_TLS"])
			write(t, filepath.Join(dir, "in/lines.log"), joined(sent))
			newAgent(t, dir, "thrift.conf", v).start()
			check(t, dir)
		})
	}
}

// TestThriftKilled: the agent that receives is killed in the middle, and started
// again. Nothing is lost, and only what was not answered is sent twice.
func TestThriftKilled(t *testing.T) {
	n := pick(3000, 15000) // one Flume of the two
	sent := lines("thrift", n)
	out := func(dir string) string { return filepath.Join(dir, "out") }
	setUp := func(t *testing.T) (dir string, v vars) {
		dir = workDir(t)
		must(t, os.MkdirAll(out(dir), 0o755))
		v = vars{"E2E_DIR": dir, "E2E_PORT": port(t)}
		write(t, filepath.Join(dir, "in/lines.log"), joined(sent[:n/2]))
		return dir, v
	}
	more := func(t *testing.T, dir string) { appendTo(t, filepath.Join(dir, "in/lines.log"), joined(sent[n/2:])) }
	const batch = 20 // of the sinks in scenarios/thriftkill.conf
	// between has a Millrace killed, and limits what comes twice.
	between := func(t *testing.T, dir string, a *agent, most int) {
		t.Helper()
		for round := range pick(1, 5) {
			flow(t, out(dir), n/20*(round+1))
			a.kill9()
			if round == 0 {
				more(t, dir)
			}
			a.start()
		}
		again(t, sent, complete(t, sent, out(dir)), pick(1, 5)*most)
	}
	t.Run("Flume to Millrace", func(t *testing.T) {
		dir, v := setUp(t)
		a := newAgent(t, dir, "thriftkill.conf", v, "-n", "a2").start()
		flume(t, "thriftkill.conf", v)
		between(t, dir, a, batch)
	})
	t.Run("Millrace to Flume", func(t *testing.T) {
		dir, v := setUp(t)
		startFlume(t, v, "a2", "thriftkill.conf", v["E2E_PORT"])
		newAgent(t, dir, "thriftkill.conf", v).start()
		flow(t, out(dir), n/20)
		service(t, nil, "flume.sh", "kill9", "a2")
		more(t, dir)
		startFlume(t, v, "a2", "thriftkill.conf", v["E2E_PORT"])
		// One not answered, and one that Flume's own sink had written and not committed.
		again(t, sent, complete(t, sent, out(dir)), 2*batch)
	})
	t.Run("Millrace to Millrace", func(t *testing.T) {
		n = pick(40000, 200000) // two that are fast, to be in the middle
		sent = lines("thrift", n)
		dir, v := setUp(t)
		a := newAgent(t, dir, "thriftkill.conf", v, "-n", "a2").start()
		must(t, os.MkdirAll(filepath.Join(dir, "sender"), 0o755))
		newAgent(t, filepath.Join(dir, "sender"), "thriftkill.conf", v).start()
		between(t, dir, a, 8*batch) // so many are on the way
	})
}

// TestThriftPython: a program in Python with the library of Apache Thrift sends,
// in both protocols, over TLS, one event at a time and in batches.
func TestThriftPython(t *testing.T) {
	n := pick(1000, 10000)
	sent := lines("python", n)
	dir := workDir(t)
	v := thriftEnv(t, dir, 100)
	newAgent(t, dir, "thrift.conf", v, "-n", "a2").start()
	file := filepath.Join(dir, "lines")
	write(t, file, joined(sent))
	for _, w := range thriftWays {
		t.Run(w, func(t *testing.T) {
			args := []string{"127.0.0.1", v["E2E_"+strings.ToUpper(w)], "compact", file, "1"}
			switch w {
			case "binary":
				args[2], args[4] = "binary", "20"
			case "tls":
				args = append(args, filepath.Join(certs(), "ca.pem"))
				args[4] = "500"
			}
			if retries := runPython(t, args, func(int) {}); retries != 0 {
				t.Errorf("%d retries", retries)
			}
			flow(t, filepath.Join(dir, "out", w), n)
			same(t, w, sent, rolled(t, filepath.Join(dir, "out", w)))
		})
	}
	t.Run("killed", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.MkdirAll(filepath.Join(dir, "out"), 0o755))
		v := vars{"E2E_DIR": dir, "E2E_PORT": port(t)}
		a := newAgent(t, dir, "thriftkill.conf", v, "-n", "a2").start()
		killed := false
		retries := runPython(t, []string{"127.0.0.1", v["E2E_PORT"], "compact", file, "20"}, func(k int) {
			if k >= n/2 && !killed {
				killed = true
				a.kill9()
				a.start()
			}
		})
		flow(t, filepath.Join(dir, "out"), n)
		again := repeats(t, sent, rolled(t, filepath.Join(dir, "out")))
		t.Logf("%d lines, %d retries, %d repeated", n, retries, again)
		if retries == 0 || again > 20 {
			t.Errorf("%d retries, %d lines repeated", retries, again)
		}
	})
}

// runPython runs clients/thrift_send.py to its end; progress sees how much is sent.
func runPython(t *testing.T, args []string, progress func(sent int)) (retries int) {
	t.Helper()
	c := exec.Command("bash", append([]string{"services/python-thrift.sh", "send"}, args...)...)
	out, err := c.StdoutPipe()
	must(t, err)
	var errs strings.Builder
	c.Stderr = &errs
	must(t, c.Start())
	done := -1
	s := bufio.NewScanner(out)
	for s.Scan() {
		var n int
		if _, err := fmt.Sscanf(s.Text(), "sent %d", &n); err == nil {
			progress(n)
		}
		_, _ = fmt.Sscanf(s.Text(), "done %d retries %d", &done, &retries)
	}
	if err := c.Wait(); err != nil || done < 0 {
		t.Fatalf("thrift_send.py: %v\n%s", err, errs.String())
	}
	return retries
}
