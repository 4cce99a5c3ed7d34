//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kafka starts so many brokers, and returns the first of their ports: each has
// five of ten. They are below those that the system gives to connections: a
// broker that was killed must find them free when it comes back.
func kafka(t *testing.T, brokers int) int {
	t.Helper()
	for {
		base := 12000 + 10*rand.IntN(1900)
		if free(base, base+10*brokers) {
			daemon(t, nil, "kafka.sh", "start", "e2e", fmt.Sprint(base), fmt.Sprint(brokers))
			return base
		}
	}
}

// free reports whether nobody listens at the ports [from, to).
func free(from, to int) bool {
	for p := from; p < to; p++ {
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
func TestKafka(t *testing.T) { throughKafka(t, 1, []int{1, 1}) }

// TestKafkaLeadersDie: the same with three brokers that die in turn, so that
// partitions and the group's coordinator go to others, and back.
func TestKafkaLeadersDie(t *testing.T) {
	if !long() {
		t.Skip("three brokers are for the long form")
	}
	throughKafka(t, 3, []int{1, 2, 3, 1})
}

func throughKafka(t *testing.T, brokers int, dying []int) {
	dir := workDir(t)
	base := kafka(t, brokers)
	n := pick(100_000, 400_000)
	all := lines("app", n)
	part := n / (len(dying) + 2)
	app, out := filepath.Join(dir, "log/app.log"), filepath.Join(dir, "rolled")
	must(t, os.MkdirAll(out, 0o755))
	appendTo(t, app, joined(all[:part]))
	var servers []string
	for i := range brokers {
		servers = append(servers, fmt.Sprint("localhost:", base+10*i))
	}
	a := newAgent(t, dir, "kafka.conf", vars{"E2E_KAFKA": strings.Join(servers, ",")}).start()
	for k, id := range dying {
		eventually(t, "lines come through", func() bool { return countRolled(out) > k*part+part/10 })
		appendTo(t, app, joined(all[(k+1)*part:(k+2)*part]))
		service(t, nil, "kafka.sh", "kill9", "e2e", fmt.Sprint(id))
		if brokers > 1 {
			eventually(t, "the others go on", func() bool { return countRolled(out) > (k+1)*part+part/10 })
		}
		service(t, nil, "kafka.sh", "up", "e2e", fmt.Sprint(id))
	}
	appendTo(t, app, joined(all[(len(dying)+1)*part:]))
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
	daemon(t, nil, "krb.sh", "start", "kafka", port(t))
	t.Setenv("KAFKA_KRB", "kafka")
	krb := filepath.Join(runDir(), "krb-kafka")
	base := kafka(t, 1)
	const (
		apache = "org.apache.kafka.common.security."
		alice  = ` required username="alice" password="alice-secret";`
		scram  = apache + "scram.ScramLoginModule" + alice
		plain  = apache + "plain.PlainLoginModule" + alice
		token  = apache + `oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="alice";`
	)
	ticket := `com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true serviceName="kafka" principal="flume/localhost@EXAMPLE.TEST" keyTab="` +
		filepath.Join(krb, "flume.keytab") + `";`
	for i, c := range []struct {
		protocol, mechanism, jaas, codec string
		port                             int
	}{
		{"SASL_SSL", "SCRAM-SHA-512", scram, "gzip", base + 1},
		{"SSL", "PLAIN", plain, "snappy", base + 2},
		{"SASL_PLAINTEXT", "PLAIN", plain, "lz4", base + 3},
		{"SASL_PLAINTEXT", "SCRAM-SHA-256", scram, "zstd", base + 3},
		{"SASL_PLAINTEXT", "GSSAPI", ticket, "none", base + 3},
		{"SASL_SSL", "GSSAPI", ticket, "none", base + 1},
		{"SASL_SSL", "OAUTHBEARER", token, "none", base + 1},
	} {
		t.Run(c.protocol+" "+c.mechanism, func(t *testing.T) {
			dir := workDir(t)
			out := filepath.Join(dir, "rolled")
			must(t, os.MkdirAll(out, 0o755))
			env := vars{
				"E2E_LINES": port(t), "E2E_KAFKA": fmt.Sprint(c.port), "E2E_TOPIC": fmt.Sprint("login", i), "E2E_CODEC": c.codec, "E2E_CERTS": certs(),
				"E2E_PROTOCOL": c.protocol, "E2E_MECHANISM": c.mechanism, "E2E_JAAS": c.jaas, "E2E_KRB5": filepath.Join(krb, "krb5.conf"),
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
	kafkaPort := fmt.Sprint(kafka(t, 1))
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
