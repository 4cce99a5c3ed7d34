package rpctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// certificate writes a key pair that signs itself, for server and client alike.
func certificate(t testing.TB, host string) (path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "pair.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// javaStores are key and trust stores as keytool makes them, seen from the
// folder of a connector.
const javaStores = "../internal/tlsconf/testdata/"

// Hop is a way from a sink to a source.
type Hop struct {
	Name         string
	Source, Sink []string // keys and values
	Fails        string   // what the sink says; empty: it arrives
}

// TLS are keys of sources and sinks.
type TLS struct {
	Client           string   // a key pair that Mutual trusts
	Secure, Mutual   []string // sources, the second of which asks for a certificate
	Trusting         []string // a sink that trusts both
	TrustingWhomever []string
}

// NewTLS makes key pairs.
func NewTLS(t testing.TB) TLS {
	t.Helper()
	server, client := certificate(t, "elsewhere"), certificate(t, "client")
	secure := []string{"ssl", "true", "keystore", server}
	return TLS{
		Client: client,
		Secure: secure, Mutual: slices.Concat(secure, []string{"client-auth", "need", "truststore", client}),
		Trusting:         []string{"ssl", "true", "truststore", server},
		TrustingWhomever: []string{"ssl", "true", "trust-all-certs", "true"},
	}
}

// Hops goes from a sink to a source by the ways that TLS allows or not, and by the wire's own.
func Hops(t *testing.T, w Wire, x TLS, own ...Hop) {
	stranger := certificate(t, "stranger")
	jks := []string{"ssl", "true", "keystore", javaStores + "server.jks", "keystore-password", "changeit"}
	trust := []string{"ssl", "true", "truststore", javaStores + "trust.jks"}
	hops := []Hop{
		{"TLS", x.Secure, x.Trusting, ""},
		{"mutual TLS", x.Mutual, slices.Concat(x.Trusting, []string{"certificate", x.Client}), ""},
		{
			"PKCS12",
			[]string{"ssl", "true", "keystore", javaStores + "server.p12", "keystore-type", "PKCS12", "keystore-password", "changeit"},
			x.TrustingWhomever, "",
		},
		{"JKS", jks, slices.Concat(trust, []string{"truststore-password", "changeit"}), ""},
		{"a trust store whose password is not given", jks, trust, ""},
		{"any certificate", x.Secure, x.TrustingWhomever, ""},
		{"TLS 1.2", slices.Concat(x.Secure, []string{"exclude-protocols", "TLSv1.3"}), x.Trusting, ""},

		{"TLS to a plain source", nil, x.Trusting, "handshake with"},
	}
	for _, h := range slices.Concat(hops, own) {
		t.Run(h.Name, func(t *testing.T) { h.run(t, w) })
	}
	// With TLS 1.3 a client is refused after its own part of the handshake. Where
	// it does not go on to greet, a request finds that out: it reads the alert, or
	// that the connection was reset.
	refused := " "
	if w.Greets {
		refused = "handshake with"
	}
	for _, h := range []Hop{
		{"a certificate for another host", x.Secure, slices.Concat(x.Trusting, []string{"verify-hostname", "true"}), "certificate"},
		{"a server that is not trusted", x.Secure, []string{"ssl", "true", "truststore", stranger}, "certificate"},
		{"no client certificate", x.Mutual, x.Trusting, refused},
		{"a client that is not trusted", x.Mutual, slices.Concat(x.Trusting, []string{"certificate", stranger}), refused},
		{"plain to a TLS source", x.Secure, nil, refused},
	} {
		t.Run(h.Name, func(t *testing.T) {
			counted := h.run(t, w).Env.Metrics.Counter("tls_handshake_failures_total", "")
			suite.Eventually(t, "the source counts it", func() bool { return counted.Load() > 0 })
		})
	}
}

func (h *Hop) run(t *testing.T, w Wire) *sourcetest.Instance {
	in := Start(t, w, h.Source...)
	end := OpenSink(t, w, SinkKeys(in.Addr().String(), slices.Concat([]string{"connect-timeout", "5000", "request-timeout", "5000"}, h.Sink)...))
	bodies := suite.Bodies(0, 300)
	if h.Fails != "" {
		tx := end.Deliver(bodies)
		_ = end.Sink.Flush(t.Context())
		if _, back, _ := tx.Acked(); back == nil || !strings.Contains(back.Error(), h.Fails) {
			t.Errorf("rolled back with %v, want %s", back, h.Fails)
		}
		end.Close()
		if n := in.Out.Len(); n != 0 {
			t.Errorf("%d events", n)
		}
		return in
	}
	for part := range slices.Chunk(bodies, 100) {
		end.Deliver(part)
	}
	end.Close()
	if got := in.Out.Bodies(); !slices.Equal(got, bodies) {
		t.Errorf("%d events arrive", len(got))
	}
	return in
}

// GlobalStores goes with stores that the environment names for all components.
func GlobalStores(t *testing.T, w Wire) {
	none := func(string) string { return "" }
	t.Cleanup(func() { tlsconf.SetDefaults(tlsconf.ReadDefaults(none, none)) })
	for _, password := range []string{"changeit", ""} {
		vars := map[string]string{
			"FLUME_SSL_KEYSTORE_PATH": javaStores + "server.jks", "FLUME_SSL_KEYSTORE_PASSWORD": "changeit",
			"FLUME_SSL_TRUSTSTORE_PATH": javaStores + "trust.jks", "FLUME_SSL_TRUSTSTORE_PASSWORD": password,
		}
		tlsconf.SetDefaults(tlsconf.ReadDefaults(none, func(name string) string { return vars[name] }))
		in := Start(t, w, "ssl", "true")
		end := OpenSink(t, w, SinkKeys(in.Addr().String(), "ssl", "true"))
		DeliverAll(t, end, 3)
		end.Close()
		if n := in.Out.Len(); n != 3 {
			t.Errorf("password %q: %d events arrive", password, n)
		}
	}
}
