package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// certified makes a certificate for a host or an address, and a PEM file that trusts it.
func certified(t *testing.T, host string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func tlsKeys(prefix, trust string, more ...string) map[string]string {
	keys := map[string]string{prefix + "security.protocol": "SSL", prefix + "ssl.truststore.location": trust, prefix + "ssl.truststore.type": "PEM"}
	for i := 0; i < len(more); i += 2 {
		keys[prefix+more[i]] = more[i+1]
	}
	return keys
}

// The broker's certificate must be for its host, unless that is not looked at.
//
// flume: TestKafkaSource testSslSource testSslWithFqdnValidationFailedSource
// flume: TestKafkaSink testSslTopic
func TestTLS(t *testing.T) {
	for _, c := range []struct {
		host string
		more []string
		fine bool
	}{
		{"127.0.0.1", nil, true},
		{"kafka.invalid", nil, false},
		{"kafka.invalid", []string{"ssl.disableTLSHostnameVerification", "true"}, true},
	} {
		cert, trust := certified(t, c.host)
		cl := newCluster(t, kfake.SeedTopics(1, "t"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
		keys := tlsKeys(producerPrefix, trust, c.more...)
		keys["kafka.topic"] = "t"
		if !c.fine {
			keys["kafka.producer.delivery.timeout.ms"] = "1000"
		}
		in := cl.openSink(keys)
		x := deliver(t, in, event("hello"))
		in.Close()
		if c.fine != x.acked[0] {
			t.Errorf("sink, certificate for %s, %v: acked %v, %v", c.host, c.more, x.acked, x.rolled)
		}
		out := sourcetest.NewOutlet()
		src := cl.start(tlsKeys(consumerPrefix, trust, c.more...), out)
		if c.fine {
			arrive(t, out, 1)
		} else {
			suite.Eventually(t, "the source complains", func() bool { return src.Env.Metrics.EventReadFail.Load() > 1 })
			if out.Len() > 0 {
				t.Errorf("source, certificate for %s: an event has arrived", c.host)
			}
		}
		src.Close()
		if !c.fine {
			continue
		}
		keys = tlsKeys(producerPrefix, trust, c.more...)
		maps.Copy(keys, tlsKeys(consumerPrefix, trust, c.more...))
		var list []string
		for k, v := range keys {
			list = append(list, k, v)
		}
		ch := cl.openChannel(append(list, "parseAsFlumeEvent", "false", "kafka.consumer.group.id", "channel")...)
		putBodies(t, ch, "again")
		if got := deliverN(t, ch, 2); string(got[0].Body) != "hello" || string(got[1].Body) != "again" {
			t.Errorf("channel: %v", got)
		}
	}
}

// Which stores are used: the component's own, else the agent's, and none without TLS.
//
// flume: KafkaSSLUtilTest testSecurityProtocol_PLAINTEXT testSecurityProtocol_SASL_PLAINTEXT
// flume: KafkaSSLUtilTest testSecurityProtocol_SSL testSecurityProtocol_SASL_SSL
// flume: KafkaSSLUtilTest testComponentParametersNotOverridden testEmptyGlobalParametersNotAdded
func TestTLSStores(t *testing.T) {
	cert, trust := certified(t, "127.0.0.1")
	_, other := certified(t, "127.0.0.1")
	for _, c := range []struct {
		name      string
		global    string // the agent's trust store
		protocol  string
		component string // the component's
		fine      bool
	}{
		{"the agent's", trust, "SSL", "", true},
		{"its own before the agent's", other, "SSL", trust, true},
		{"its own, and it is another", trust, "SSL", other, false},
		{"none", "", "SSL", "", false},
		{"the agent's, for a login", trust, "SASL_SSL", "", true},
		{"no TLS", trust, "PLAINTEXT", "", false},
		{"no TLS, a login", trust, "SASL_PLAINTEXT", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tlsconf.SetDefaults(tlsconf.Defaults{KeyStoreType: "JKS", TrustStore: c.global, TrustStoreType: "PEM"})
			defer tlsconf.SetDefaults(tlsconf.Defaults{KeyStoreType: "JKS", TrustStoreType: "JKS"})
			s := new(sink)
			keys := map[string]string{"kafka.bootstrap.servers": "127.0.0.1:1", "kafka.producer.security.protocol": c.protocol}
			if c.component != "" {
				keys["kafka.producer.ssl.truststore.location"] = c.component
			}
			if strings.HasPrefix(c.protocol, "SASL") {
				keys["kafka.producer.sasl.mechanism"] = "PLAIN"
				keys["kafka.producer.sasl.jaas.config"] = `a.PlainLoginModule required username="u" password="p";`
			}
			bindSink(t, s, keys)
			config, err := s.tls.Client(sourcetest.NewEnv(t, "k"))
			if err != nil {
				t.Fatal(err)
			}
			if plain := strings.HasSuffix(c.protocol, "PLAINTEXT"); plain != (config == nil) {
				t.Fatalf("TLS is %v", config != nil)
			}
			if config == nil {
				return
			}
			if got := shakes(t, config, cert); got != c.fine {
				t.Errorf("the broker is trusted: %v, want %v", got, c.fine)
			}
		})
	}
}

// shakes reports whether a client trusts a server with that certificate.
func shakes(t *testing.T, config *tls.Config, cert tls.Certificate) bool {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		defer b.Close()
		_ = tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}}).HandshakeContext(context.Background())
	}()
	config = config.Clone()
	config.ServerName = "127.0.0.1"
	return tls.Client(a, config).HandshakeContext(context.Background()) == nil
}
