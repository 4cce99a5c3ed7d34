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

// layers are the ways of scenarios/avro.conf.
var layers = []string{"plain", "deflate", "tls", "both"}

// avroEnv is what scenarios/avro.conf asks for, with ports that are free.
func avroEnv(t *testing.T, dir string, batch int) vars {
	v := vars{"E2E_DIR": dir, "E2E_CERTS": certs(), "E2E_BATCH": strconv.Itoa(batch)}
	for _, l := range layers {
		v["E2E_"+strings.ToUpper(l)] = port(t)
		must(t, os.MkdirAll(filepath.Join(dir, "out", l), 0o755))
	}
	return v
}

// TestAvro: every line arrives once and in order, from a real Flume and at one,
// over every layer of the wire, in small batches and large ones.
func TestAvro(t *testing.T) {
	if out, err := serviceErr(nil, "certs.sh"); err != nil {
		t.Fatalf("certs.sh: %v\n%s", err, out)
	}
	for _, batch := range []int{1, 100, 10000} {
		n := pick(2000, 20000)
		if batch > 1 {
			n = pick(12000, 300000)
		}
		sent := lines("avro", n)
		check := func(t *testing.T, dir string) {
			t.Helper()
			for _, l := range layers {
				out := filepath.Join(dir, "out", l)
				flow(t, out, n)
				same(t, l, sent, rolled(t, out))
			}
		}
		t.Run(fmt.Sprintf("from Flume, batches of %d", batch), func(t *testing.T) {
			dir := workDir(t)
			v := avroEnv(t, dir, batch)
			newAgent(t, dir, "avro.conf", v, "-n", "a2").start()
			write(t, filepath.Join(dir, "in/lines.log"), joined(sent))
			flume(t, "avro.conf", v)
			check(t, dir)
		})
		t.Run(fmt.Sprintf("to Flume, batches of %d", batch), func(t *testing.T) {
			dir := workDir(t)
			v := avroEnv(t, dir, batch)
			startFlume(t, v, "a2", "avro.conf", v["E2E_BOTH"])
			write(t, filepath.Join(dir, "in/lines.log"), joined(sent))
			newAgent(t, dir, "avro.conf", v).start()
			check(t, dir)
		})
	}
}

// startFlume starts a real Flume as that agent and waits for a port of it.
func startFlume(t *testing.T, v vars, name, conf, port string) {
	t.Helper()
	service(t, v, "flume.sh", "start", name, "scenarios/"+conf, port)
	// Its own end takes long, and all that it was for has been looked at.
	t.Cleanup(func() { _, _ = serviceErr(nil, "flume.sh", "kill9", name) })
}

// TestAvroKilled: the agent that receives is killed in the middle, and started
// again. Nothing is lost, and only what was not answered is sent twice.
func TestAvroKilled(t *testing.T) {
	n := pick(3000, 15000)
	sent := lines("avro", n)
	out := func(dir string) string { return filepath.Join(dir, "out") }
	setUp := func(t *testing.T) (dir string, v vars) {
		dir = workDir(t)
		must(t, os.MkdirAll(out(dir), 0o755))
		v = vars{"E2E_DIR": dir, "E2E_PORT": port(t)}
		write(t, filepath.Join(dir, "in/lines.log"), joined(sent[:n/2]))
		return dir, v
	}
	more := func(t *testing.T, dir string) { appendTo(t, filepath.Join(dir, "in/lines.log"), joined(sent[n/2:])) }
	arrived := func(t *testing.T, dir string, k int) {
		t.Helper()
		flow(t, out(dir), k)
	}
	const batch = 20 // of the sinks in scenarios/avrokill.conf
	t.Run("Millrace", func(t *testing.T) {
		dir, v := setUp(t)
		a := newAgent(t, dir, "avrokill.conf", v, "-n", "a2").start()
		flume(t, "avrokill.conf", v)
		for round := range pick(1, 5) {
			arrived(t, dir, n/20*(round+1))
			a.kill9()
			if round == 0 {
				more(t, dir)
			}
			a.start()
		}
		again(t, sent, complete(t, sent, out(dir)), pick(1, 5)*batch)
	})
	t.Run("Flume", func(t *testing.T) {
		dir, v := setUp(t)
		startFlume(t, v, "a2", "avrokill.conf", v["E2E_PORT"])
		newAgent(t, dir, "avrokill.conf", v).start()
		arrived(t, dir, n/20)
		service(t, nil, "flume.sh", "kill9", "a2")
		more(t, dir)
		startFlume(t, v, "a2", "avrokill.conf", v["E2E_PORT"])
		// One not answered, and one that Flume's own sink had written and not committed.
		again(t, sent, complete(t, sent, out(dir)), 2*batch)
	})
}

// TestAvroSDK: a Java program with Flume's own client sends to two agents, of
// which one is killed in the middle and comes back.
func TestAvroSDK(t *testing.T) {
	n := pick(2000, 20000)
	sent := lines("sdk", n)
	for _, kind := range []string{"default", "default_failover", "default_loadbalance"} {
		t.Run(kind, func(t *testing.T) {
			dir := workDir(t)
			var agents []*agent
			var outs []string
			props := "client.type = " + kind + "\nhosts = h0 h1\nbatch-size = 10\nrequest-timeout = 5000\nconnect-timeout = 5000\n"
			for i := range 2 {
				home := filepath.Join(dir, strconv.Itoa(i))
				must(t, os.MkdirAll(filepath.Join(home, "out"), 0o755))
				v := vars{"E2E_PORT": port(t)}
				props += fmt.Sprintf("hosts.h%d = 127.0.0.1:%s\n", i, v["E2E_PORT"])
				agents = append(agents, newAgent(t, home, "avrokill.conf", v, "-n", "a2").start())
				outs = append(outs, filepath.Join(home, "out"))
			}
			write(t, filepath.Join(dir, "props"), props)
			write(t, filepath.Join(dir, "lines"), joined(sent))
			retries := runJava(t, nil, func(k int) {
				switch {
				case k >= n/4 && agents[0].cmd != nil && k < n/2:
					agents[0].kill9()
					if kind == "default" { // there is no other
						agents[0].start()
					}
				case k >= n/2 && agents[0].cmd == nil:
					agents[0].start()
				}
			}, "flume.sh", "java", "clients/Sdk.java", filepath.Join(dir, "props"), filepath.Join(dir, "lines"))
			var got []string
			for i, out := range outs {
				agents[i].stop()
				part := rolled(t, out)
				t.Logf("agent %d: %d lines", i, len(part))
				if len(part) == 0 && (i == 0 || kind != "default") {
					t.Errorf("agent %d has got nothing", i)
				}
				got = append(got, part...)
			}
			again(t, sent, got, (retries+1)*10) // failover tries again by itself
		})
	}
}

// runJava runs a program of clients/ to its end; progress sees how much is sent.
// before, if there is one, is called when the program has sent all, and only
// then its input ends.
func runJava(t *testing.T, before func(), progress func(sent int), script string, args ...string) (retries int) {
	t.Helper()
	c := exec.Command("bash", append([]string{"services/" + script}, args...)...)
	in, err := c.StdinPipe()
	must(t, err)
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
		if n, _ := fmt.Sscanf(s.Text(), "done %d retries %d", &done, &retries); n == 2 {
			if before != nil {
				before()
			}
			must(t, in.Close())
		}
	}
	if err := c.Wait(); err != nil || done < 0 {
		t.Fatalf("%s: %v\n%s", script, err, errs.String())
	}
	return retries
}

// TestAvroClient: our avro-client to a Flume, and Flume's to us.
func TestAvroClient(t *testing.T) {
	n := pick(500, 5000)
	sent := lines("client", n)
	dir := workDir(t)
	write(t, filepath.Join(dir, "lines"), joined(sent))
	write(t, filepath.Join(dir, "headers"), "app = shop\n")
	for _, who := range []string{"ours", "theirs"} {
		home := filepath.Join(dir, who)
		must(t, os.MkdirAll(filepath.Join(home, "out"), 0o755))
		v := vars{"E2E_DIR": home, "E2E_PORT": port(t)}
		if who == "ours" {
			startFlume(t, v, "a2", "avrokill.conf", v["E2E_PORT"])
			out, errs, code := millrace(t, nil, "avro-client", "-H", "127.0.0.1", "-p", v["E2E_PORT"], "-F", filepath.Join(dir, "lines"), "-R", filepath.Join(dir, "headers"))
			if code != 0 || !strings.HasPrefix(out, fmt.Sprintf("%d events delivered", n)) {
				t.Errorf("%d %q %q", code, out, errs)
			}
		} else {
			newAgent(t, home, "avrokill.conf", v, "-n", "a2").start()
			service(t, nil, "flume.sh", "avro-client", "127.0.0.1", v["E2E_PORT"], filepath.Join(dir, "lines"), "-R", filepath.Join(dir, "headers"))
		}
		flow(t, filepath.Join(home, "out"), n)
		same(t, who, sent, rolled(t, filepath.Join(home, "out")))
	}
}
