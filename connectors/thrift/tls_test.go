package thrift

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/tlsconf"
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

// javaStores are key and trust stores as keytool makes them.
const javaStores = "../internal/tlsconf/testdata/"

// From our sink to our source: plain, in both protocols, with TLS.
//
// flume: TestThriftSource testAppendSSLWithComponentKeystore
// flume: TestThriftSink testSslProcessWithComponentTruststore testSslSinkWithNonSslServer testSslSinkWithNonTrustedCert
func TestHop(t *testing.T) {
	server, client, stranger := certificate(t, "elsewhere"), certificate(t, "client"), certificate(t, "stranger")
	secure := []string{"ssl", "true", "keystore", server}
	mutual := append([]string{"client-auth", "need", "truststore", client}, secure...)
	binary := []string{"protocol", "binary"}
	trusting := []string{"ssl", "true", "truststore", server}
	with := func(list ...[]string) []string { return slices.Concat(list...) }
	for _, x := range []struct {
		name         string
		source, sink []string
		fails        string // what the sink says; empty: it arrives
	}{
		{"compact", nil, nil, ""},
		{"binary", binary, binary, ""},
		{"TLS", secure, trusting, ""},
		{"binary and TLS", with(secure, binary), with(trusting, binary), ""},
		{"mutual TLS", mutual, with(trusting, []string{"certificate", client}), ""},
		{
			"JKS",
			[]string{"ssl", "true", "keystore", javaStores + "server.jks", "keystore-password", "changeit"},
			[]string{"ssl", "true", "truststore", javaStores + "trust.jks", "truststore-password", "changeit"},
			"",
		},
		{"any certificate", secure, []string{"ssl", "true", "trust-all-certs", "true"}, ""},
		{"TLS 1.2", with(secure, []string{"exclude-protocols", "TLSv1.3"}), trusting, ""},

		{"a certificate for another host", secure, with(trusting, []string{"verify-hostname", "true"}), "certificate"},
		{"a server that is not trusted", secure, []string{"ssl", "true", "truststore", stranger}, "certificate"},
		// With TLS 1.3 a client is refused after its own part of the handshake: it reads the alert, or that the connection was reset.
		{"no client certificate", mutual, trusting, " "},
		{"a client that is not trusted", mutual, with(trusting, []string{"certificate", stranger}), " "},
		{"TLS to a plain source", nil, trusting, "handshake with"},
		{"plain to a TLS source", secure, nil, " "}, // an alert that is no frame, or the end
		{"binary to compact", nil, binary, "the far end closed the connection"},
		{"compact to binary", binary, nil, "the far end closed the connection"},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := start(t, x.source...)
			host, port, _ := net.SplitHostPort(in.Addr().String())
			keys := map[string]string{"hostname": host, "port": port, "connect-timeout": "5000", "request-timeout": "5000"}
			for i := 0; i < len(x.sink); i += 2 {
				keys[x.sink[i]] = x.sink[i+1]
			}
			end := open(t, keys)
			bodies := suite.Bodies(0, 300)
			if x.fails != "" {
				tx := end.Deliver(bodies)
				_ = end.Sink.Flush(t.Context())
				if _, back, _ := tx.Acked(); back == nil || !strings.Contains(back.Error(), x.fails) {
					t.Errorf("rolled back with %v, want %s", back, x.fails)
				}
				end.Close()
				if n := in.Out.Len(); n != 0 {
					t.Errorf("%d events", n)
				}
				return
			}
			for part := range slices.Chunk(bodies, 100) {
				end.Deliver(part)
			}
			end.Close()
			if got := in.Out.Bodies(); !slices.Equal(got, bodies) {
				t.Errorf("%d events arrive", len(got))
			}
		})
	}
}

// Stores that the environment names for all components.
//
// flume: TestThriftSource testAppendSSLWithGlobalKeystore
// flume: TestThriftSink testSslProcessWithGlobalTruststoreNoPassword
func TestGlobalStores(t *testing.T) {
	none := func(string) string { return "" }
	t.Cleanup(func() { tlsconf.SetDefaults(tlsconf.ReadDefaults(none, none)) })
	vars := map[string]string{
		"FLUME_SSL_KEYSTORE_PATH": javaStores + "server.jks", "FLUME_SSL_KEYSTORE_PASSWORD": "changeit",
		"FLUME_SSL_TRUSTSTORE_PATH": javaStores + "trust.jks",
	}
	tlsconf.SetDefaults(tlsconf.ReadDefaults(none, func(name string) string { return vars[name] }))
	in := start(t, "ssl", "true")
	host, port, _ := net.SplitHostPort(in.Addr().String())
	end := open(t, map[string]string{"ssl": "true", "hostname": host, "port": port})
	deliverAll(t, end, 3)
	end.Close()
	if n := in.Out.Len(); n != 3 {
		t.Errorf("%d events arrive", n)
	}
}
