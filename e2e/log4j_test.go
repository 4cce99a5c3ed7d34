//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestLog4j: a Java program logs through Log4j 2's Flume appender to two agents,
// of which the first is killed in the middle and comes back: event by event, in
// batches, and with what the appender calls persistent, which keeps events in a
// data base of its own until they are sent.
func TestLog4j(t *testing.T) {
	n := pick(2000, 20000)
	sent := lines("log4j", n)
	for _, x := range []struct {
		kind  string // type of the appender
		batch int
	}{{"Avro", 1}, {"Avro", 10}, {"Persistent", 10}} {
		t.Run(fmt.Sprintf("%s by %d", x.kind, x.batch), func(t *testing.T) {
			dir := workDir(t)
			var agents []*agent
			var outs []string
			conf := fmt.Sprintf(`<Configuration status="OFF"><Appenders>
<Flume name="flume" type="%s" batchSize="%d" dataDir="%s" compress="false" ignoreExceptions="false" connectTimeoutMillis="5000" requestTimeoutMillis="5000">
<PatternLayout pattern="%%m" charset="UTF-8"/>
`, x.kind, x.batch, filepath.Join(dir, "store"))
			for i := range 2 {
				h := home(t, dir, strconv.Itoa(i))
				v := vars{"E2E_PORT": port(t)}
				conf += fmt.Sprintf("<Agent host=%q port=%q/>\n", "127.0.0.1", v["E2E_PORT"])
				outs = append(outs, home(t, h, "out"))
				agents = append(agents, newAgent(t, h, "avrokill.conf", v, "-n", "a2").start())
			}
			conf += `</Flume></Appenders><Loggers><Root level="info"><AppenderRef ref="flume"/></Root></Loggers></Configuration>`
			write(t, filepath.Join(dir, "log4j2.xml"), conf)
			write(t, filepath.Join(dir, "lines"), joined(sent))
			var sends func()
			if x.kind == "Persistent" { // when it likes
				sends = func() { complete(t, sent, outs...) }
			}
			retries := runJava(t, sends, func(k int) {
				switch {
				case k >= n/4 && k < n/2 && agents[0].cmd != nil:
					// The persistent one has logged them, and sends when it likes.
					eventually(t, "the first agent has got something", func() bool { return countRolled(outs[0]) > 0 })
					agents[0].kill9()
				case k >= n/2 && agents[0].cmd == nil:
					agents[0].start()
				}
			}, "log4j.sh", "java", "clients/Log4j.java", filepath.Join(dir, "log4j2.xml"), filepath.Join(dir, "lines"), strconv.Itoa(x.batch))
			got := complete(t, sent, outs...)
			for i, out := range outs {
				part := rolled(t, out)
				t.Logf("agent %d: %d lines", i, len(part))
				if len(part) == 0 {
					t.Errorf("agent %d has got nothing", i)
				}
			}
			again(t, sent, got, (retries+1)*2*x.batch) // the appender tries the other agent by itself
			if _, err := os.Stat(filepath.Join(dir, "store")); (err == nil) != (x.kind == "Persistent") {
				t.Errorf("store of the appender: %v", err)
			}
		})
	}
}
