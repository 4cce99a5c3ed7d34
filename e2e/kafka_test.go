//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// kafka starts a broker and returns its first port.
func kafka(t *testing.T) int {
	t.Helper()
	for {
		base, err := strconv.Atoi(port(t))
		must(t, err)
		if base+5 < 65536 && free(base+1, base+2, base+3, base+4) {
			daemon(t, nil, "kafka.sh", "start", "e2e", fmt.Sprint(base))
			return base
		}
	}
}

func free(ports ...int) bool {
	for _, p := range ports {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// checksum is one of lines in any order.
func checksum(lines []string) string {
	sum := sha256.Sum256([]byte(joined(slices.Sorted(slices.Values(lines)))))
	return hex.EncodeToString(sum[:8])
}

// TestKafka: a file goes into Kafka and out of it into files, while the broker
// dies twice. Every line comes once.
func TestKafka(t *testing.T) {
	dir := workDir(t)
	base := kafka(t)
	n := pick(100_000, 1_000_000)
	all := lines("app", n)
	app, out := filepath.Join(dir, "log/app.log"), filepath.Join(dir, "rolled")
	must(t, os.MkdirAll(out, 0o755))
	appendTo(t, app, joined(all[:n/4]))
	a := newAgent(t, dir, "kafka.conf", vars{"E2E_KAFKA": fmt.Sprint(base)}).start()
	eventually(t, "some lines have come through", func() bool { return countRolled(out) > n/20 })
	for k := 1; k < 3; k++ {
		appendTo(t, app, joined(all[k*n/4:(k+1)*n/4]))
		eventually(t, "more lines come through", func() bool { return countRolled(out) > k*n/4+n/20 })
		service(t, nil, "kafka.sh", "kill9", "e2e", "1")
		service(t, nil, "kafka.sh", "up", "e2e", "1")
	}
	appendTo(t, app, joined(all[3*n/4:]))
	eventually(t, "all lines have come through", func() bool { return countRolled(out) >= n })
	a.stop()
	if left := a.lastLine(); left.Kept != 0 || left.Lost != 0 {
		t.Errorf("%+v", left)
	}
	got := rolled(t, out)
	if len(got) != n || checksum(got) != checksum(all) {
		t.Errorf("%d lines with checksum %s, want %d with %s", len(got), checksum(got), n, checksum(all))
	}
}

// TestKafkaLogins: every kind of login and of TLS, each with another codec.
func TestKafkaLogins(t *testing.T) {
	base := kafka(t)
	const scram, plain = "org.apache.kafka.common.security.scram.ScramLoginModule", "org.apache.kafka.common.security.plain.PlainLoginModule"
	for i, c := range []struct {
		protocol, mechanism, module, codec string
		port                               int
	}{
		{"SASL_SSL", "SCRAM-SHA-512", scram, "gzip", base + 1},
		{"SSL", "PLAIN", plain, "snappy", base + 2},
		{"SASL_PLAINTEXT", "PLAIN", plain, "lz4", base + 3},
		{"SASL_PLAINTEXT", "SCRAM-SHA-256", scram, "zstd", base + 3},
	} {
		t.Run(c.protocol+" "+c.mechanism, func(t *testing.T) {
			dir := workDir(t)
			out := filepath.Join(dir, "rolled")
			must(t, os.MkdirAll(out, 0o755))
			env := vars{
				"E2E_LINES": port(t), "E2E_KAFKA": fmt.Sprint(c.port), "E2E_TOPIC": fmt.Sprint("login", i), "E2E_CODEC": c.codec, "E2E_CERTS": certs(),
				"E2E_PROTOCOL": c.protocol, "E2E_MECHANISM": c.mechanism, "E2E_JAAS": c.module + ` required username="alice" password="alice-secret";`,
			}
			a := newAgent(t, dir, "kafka-login.conf", env).start()
			want := lines("app", 50)
			run(t, joined(want), "ncat", "127.0.0.1", env["E2E_LINES"])
			eventually(t, "the lines have come back", func() bool { return countRolled(out) >= len(want) })
			a.stop()
			if got := rolled(t, out); checksum(got) != checksum(want) {
				t.Errorf("%d lines: %q", len(got), got)
			}
			if log, err := os.ReadFile(a.log); err != nil || strings.Contains(string(log), "alice-secret") {
				t.Errorf("the password is in the log, or %v", err)
			}
		})
	}
}

// TestKafkaAndFlume: Flume's sink writes what our source reads, and our sink
// what Flume's source reads, headers included.
func TestKafkaAndFlume(t *testing.T) {
	dir := workDir(t)
	kafkaPort := fmt.Sprint(kafka(t))
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	must(t, os.MkdirAll(ours, 0o755))
	must(t, os.MkdirAll(theirs, 0o755))
	for _, codec := range []string{"lz4", "snappy"} {
		t.Run(codec, func(t *testing.T) {
			ours, theirs := filepath.Join(ours, codec), filepath.Join(theirs, codec)
			must(t, os.MkdirAll(ours, 0o755))
			must(t, os.MkdirAll(theirs, 0o755))
			flumes := vars{"E2E_LINES": port(t), "E2E_KAFKA": kafkaPort, "E2E_CODEC": codec, "E2E_WRITES": "by-flume-" + codec, "E2E_READS": "by-us-" + codec, "E2E_OUT": theirs}
			env := vars{"E2E_LINES": port(t), "E2E_KAFKA": kafkaPort, "E2E_CODEC": codec, "E2E_WRITES": "by-us-" + codec, "E2E_READS": "by-flume-" + codec, "E2E_OUT": ours}
			service(t, flumes, "flume.sh", "start", "a1", "scenarios/kafka-flume.conf", flumes["E2E_LINES"])
			defer stopFlume(t)()
			a := newAgent(t, dir, "kafka-flume.conf", env).start()
			want := lines("app", 200)
			for _, e := range []vars{flumes, env} {
				run(t, joined(want), "ncat", "127.0.0.1", e["E2E_LINES"])
			}
			for out, writer := range map[string]string{ours: "by-flume-", theirs: "by-us-"} {
				eventually(t, "what "+writer+" has written is read", func() bool { return countRolled(out) >= len(want) })
				var bodies []string
				for _, l := range rolled(t, out) {
					if !strings.Contains(l, "writer="+writer+codec) || !strings.Contains(l, "offset=") || !strings.Contains(l, "topic="+writer+codec) {
						t.Fatalf("%q lacks a header", l)
					}
					bodies = append(bodies, l[strings.Index(l, "} ")+2:])
				}
				if checksum(bodies) != checksum(want) {
					t.Errorf("%s: %d lines, of them %d different", writer, len(bodies), len(slices.Compact(slices.Sorted(slices.Values(bodies)))))
				}
			}
			a.stop()
		})
	}
}
