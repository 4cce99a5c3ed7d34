package kafka

import (
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/core/sourcetest"
)

// The kinds of login, and what is said of a wrong password.
func TestLogin(t *testing.T) {
	for name, module := range map[string]string{
		"PLAIN":         "org.apache.kafka.common.security.plain.PlainLoginModule",
		"SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
		"SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser(name, "alice", "open sesame"))
			login := func(prefix, password string) map[string]string {
				return map[string]string{
					prefix + "security.protocol": saslPlaintext, prefix + "sasl.mechanism": name,
					prefix + "sasl.jaas.config": module + ` required username="alice" password="` + password + `";`,
				}
			}
			keys := login(producerPrefix, "open sesame")
			keys["kafka.topic"] = "t"
			sink := c.openSink(keys)
			if x := deliver(t, sink, event("one")); len(x.acked) != 1 {
				t.Errorf("%v", x.rolled)
			}
			sink.Close()
			out := sourcetest.NewOutlet()
			in := c.start(login(consumerPrefix, "open sesame"), out)
			arrive(t, out, 1)
			in.Close()

			keys = login(producerPrefix, "wrong")
			keys["kafka.topic"] = "t"
			for wait := 200; ; wait *= 4 { // a login takes its time where the machine is busy
				keys[producerPrefix+"delivery.timeout.ms"] = strconv.Itoa(wait)
				sink = c.openSink(keys)
				x := deliver(t, sink, event("one"))
				sink.Close()
				if x.rolled != nil && strings.Contains(x.rolled.Error(), "SASL "+name) {
					break
				}
				if x.rolled == nil || wait > 10_000 {
					t.Fatalf("%v", x.rolled)
				}
			}
		})
	}
}
