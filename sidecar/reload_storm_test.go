package sidecar

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core/suite"
)

// stormConf is the i-th configuration of the storm: what is always there (r1
// tails a file into a file channel, r2 takes requests), with all around it changing.
func stormConf(i int, port, other string) string {
	c := "m" // the memory channel, its sink, and what stands around them
	if i%7 == 6 {
		c = "n"
	}
	sources, channels, sinks := "r1 r2", "f "+c, "k1 k2"
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "a1."+format+"\n", args...) }
	line("sources.r1.type = taildir")
	line("sources.r1.filegroups = g")
	line("sources.r1.filegroups.g = ${sys:dir}/in/log")
	line("sources.r1.positionFile = ${sys:dir}/positions.json")
	line("sources.r1.batchSize = %d", 50+i/2%3)
	line("sources.r1.channels = f")
	line("sources.r2.type = http")
	line("sources.r2.bind = 127.0.0.1")
	line("sources.r2.port = %s", port)
	line("sources.r2.handler = lines")
	line("sources.r2.maxConnections = %d", 1000+i/3%2)
	line("sources.r2.channels = %s", c)
	for k, name := range []string{"r1", "r2"} {
		if (i+k)%3 > 0 {
			line("sources.%s.interceptors = i", name)
			line("sources.%s.interceptors.i.type = static", name)
			line("sources.%s.interceptors.i.value = %d", name, i)
		}
	}
	line("channels.f.type = file")
	line("channels.f.checkpointDir = ${sys:dir}/check")
	line("channels.f.dataDirs = ${sys:dir}/data")
	line("channels.f.minimumRequiredSpace = 1048576")
	line("channels.f.capacity = %d", 100000+i/3%2)
	line("channels.f.transactionCapacity = %d", 1000+i/5%2)
	line("channels.f.maxFileSize = %d", 10000000+i/2%2)
	line("channels.%s.type = memory", c)
	line("channels.%s.capacity = %d", c, 500+i%5)
	line("channels.%s.transactionCapacity = %d", c, 100+i/4%2)
	sink := func(name, channel, dir string, batch int) {
		line("sinks.%s.type = file_roll", name)
		line("sinks.%s.channel = %s", name, channel)
		line("sinks.%s.sink.directory = ${sys:dir}/%s", name, dir)
		line("sinks.%s.sink.rollInterval = 0", name)
		line("sinks.%s.sink.batchSize = %d", name, batch)
	}
	sink("k1", "f", "out1", 20+i%2)
	sink("k2", c, "out2", 20+i/2%2)
	if i%4 == 3 { // in a group now and then
		sinks += " k3"
		sink("k3", c, "out3", 20)
		line("sinkgroups = g")
		line("sinkgroups.g.sinks = k2 k3")
		line("sinkgroups.g.processor.type = failover")
		line("sinkgroups.g.processor.priority.k2 = 10")
		line("sinkgroups.g.processor.priority.k3 = 5")
	}
	if i%5 > 2 { // a source that comes and goes, on one port and another
		sources, channels, sinks = sources+" r4", channels+" x", sinks+" k4"
		line("sources.r4.type = netcat")
		line("sources.r4.bind = 127.0.0.1")
		line("sources.r4.port = %s", map[bool]string{true: other, false: "0"}[i%2 == 0])
		line("sources.r4.channels = x")
		line("channels.x.type = memory")
		line("sinks.k4.type = null")
		line("sinks.k4.channel = x")
	}
	line("sources = %s", sources)
	line("channels = %s", channels)
	line("sinks = %s", sinks)
	return b.String()
}

// Many reloads under load: nothing is lost, nothing repeated, nobody refused.
// MILLRACE_RELOADS says how many.
//
// flume: TestApplication testFLUME1854
func TestReloadStorm(t *testing.T) {
	reloads := 12
	if text := os.Getenv("MILLRACE_RELOADS"); text != "" {
		var err error
		if reloads, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	before := runtime.NumGoroutine()
	t.Cleanup(func() { suite.NoLeaks(t, before) })
	dir := t.TempDir()
	for _, name := range []string{"in", "out1", "out2", "out3"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "agent.conf")
	port, other := freePort(t), freePort(t)
	replace(t, file, stormConf(0, port, other))
	r := start(t, "--state-dir", dir, "-Ddir="+dir, "-f", file).ready()

	var load sync.WaitGroup
	over := make(chan struct{})
	ended := func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
	var tailed, posted atomic.Int64
	load.Go(func() {
		log, err := os.Create(filepath.Join(dir, "in", "log"))
		if err != nil {
			t.Error(err)
			return
		}
		defer log.Close()
		for !ended() {
			if _, err := fmt.Fprintf(log, "t%d\n", tailed.Load()); err != nil {
				t.Error(err)
				return
			}
			tailed.Add(1)
			time.Sleep(time.Millisecond) // the rate of the load
		}
	})
	for range 2 {
		load.Go(func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: suite.Deadline}
			for !ended() {
				n := posted.Add(1) - 1
				answer, err := client.Post("http://127.0.0.1:"+port, "text/plain", bytes.NewReader(fmt.Appendf(nil, "p%d\n", n)))
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				text, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					t.Errorf("request %d: %s %s", n, answer.Status, text)
					return
				}
				time.Sleep(time.Millisecond) // the rate of the load
			}
		})
	}
	calm := sync.OnceFunc(func() {
		close(over)
		load.Wait()
	})
	t.Cleanup(calm)
	for i := 1; i <= reloads && !t.Failed(); i++ {
		replace(t, file, stormConf(i, port, other))
		suite.Eventually(t, fmt.Sprint("reload ", i), func() bool { return r.status().Reload.OK+r.status().Reload.Failed >= int64(i) })
		if st := r.status().Reload; st.Last.Result != reloadOK {
			t.Errorf("reload %d: %+v", i, st.Last)
		}
	}
	calm()
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	t.Logf("%d reloads, %d lines tailed, %d requests", reloads, tailed.Load(), posted.Load())
	once(t, "t", int(tailed.Load()), lines(t, filepath.Join(dir, "out1")))
	once(t, "p", int(posted.Load()), slices.Concat(lines(t, filepath.Join(dir, "out2")), lines(t, filepath.Join(dir, "out3"))))
	if t.Failed() {
		t.Logf("%s", r.err)
	}
}

// once checks that each of n numbered events is there exactly once.
func once(t *testing.T, prefix string, n int, got []string) {
	t.Helper()
	seen := make(map[string]int)
	for _, text := range got {
		seen[text]++
	}
	lost, repeated := 0, 0
	for i := range n {
		switch seen[prefix+strconv.Itoa(i)] {
		case 0:
			lost++
		case 1:
		default:
			repeated++
		}
	}
	if lost > 0 || repeated > 0 || len(seen) != n {
		t.Errorf("%s: of %d events %d lost, %d repeated; %d in all", prefix, n, lost, repeated, len(got))
	}
}

// replace puts a file in the place of another at once.
func replace(t *testing.T, file, text string) {
	t.Helper()
	fresh := filepath.Join(t.TempDir(), "fresh")
	if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, file); err != nil {
		t.Fatal(err)
	}
}
