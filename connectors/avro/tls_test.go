package avro

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

// From our sink to our source: plain, deflate at every level, TLS, both.
//
// flume: TestAvroSource testRequestWithCompressionOnServerOnly testRequestWithCompressionOnClientOnly
// flume: TestAvroSource testSslRequestWithComponentKeystore
// flume: TestAvroSource testValidIpFilterAllows testValidIpFilterDenys
// flume: TestAvroSink testSslProcessTrustAllCerts testSslProcessWithComponentTruststore testSslProcessWithComponentTruststoreNoPassword
// flume: TestAvroSink testSslWithCompression testSslSinkWithNonSslServer testSslSinkWithNonTrustedCert
// flume: TestAvroSink testRequestWithNoCompression testRequestWithCompressionOnClientAndServerOnLevel0 testRequestWithCompressionOnClientAndServerOnLevel1
// flume: TestAvroSink testRequestWithCompressionOnClientAndServerOnLevel6 testRequestWithCompressionOnClientAndServerOnLevel9
func TestHop(t *testing.T) {
	server, client, stranger := certificate(t, "elsewhere"), certificate(t, "client"), certificate(t, "stranger")
	secure := map[string]string{"ssl": "true", "keystore": server}
	mutual := map[string]string{"ssl": "true", "keystore": server, "client-auth": "need", "truststore": client}
	packed := map[string]string{"compression-type": "deflate"}
	trusting := map[string]string{"ssl": "true", "truststore": server}
	on := map[string]string{"ssl": "true"}
	whoever := map[string]string{"ssl": "true", "trust-all-certs": "true"}
	pkcs12 := map[string]string{"ssl": "true", "keystore": javaStores + "server.p12", "keystore-type": "PKCS12", "keystore-password": "changeit"}
	jks := map[string]string{"ssl": "true", "keystore": javaStores + "server.jks", "keystore-password": "changeit"}
	local := map[string]string{"ipFilter": "true", "ipFilterRules": "allow:name:localhost,deny:ip:*"}
	nobody := map[string]string{"ipFilter": "true", "ipFilterRules": "deny:ip:127*,allow:ip:*"}
	for _, x := range []struct {
		name         string
		source, sink []map[string]string
		fails        string // what the sink says; empty: it arrives
	}{
		{"plain", nil, nil, ""},
		{"deflate 0", []map[string]string{packed}, []map[string]string{packed, {"compression-level": "0"}}, ""},
		{"deflate 1", []map[string]string{packed}, []map[string]string{packed, {"compression-level": "1"}}, ""},
		{"deflate 6", []map[string]string{packed}, []map[string]string{packed}, ""},
		{"deflate 9", []map[string]string{packed}, []map[string]string{packed, {"compression-level": "9"}}, ""},
		{"TLS", []map[string]string{secure}, []map[string]string{trusting}, ""},
		{"TLS and deflate", []map[string]string{secure, packed}, []map[string]string{trusting, packed}, ""},
		{"mutual TLS", []map[string]string{mutual}, []map[string]string{trusting, {"certificate": client}}, ""},
		{"mutual TLS and deflate", []map[string]string{mutual, packed}, []map[string]string{trusting, packed, {"keystore": client}}, ""},
		{"PKCS12", []map[string]string{pkcs12}, []map[string]string{whoever}, ""},
		{"JKS", []map[string]string{jks}, []map[string]string{on, {"truststore": javaStores + "trust.jks", "truststore-password": "changeit"}}, ""},
		{"a trust store whose password is not given", []map[string]string{jks}, []map[string]string{on, {"truststore": javaStores + "trust.jks"}}, ""},
		{"let in by ipFilterRules", []map[string]string{local}, nil, ""},
		{"let in by ipFilterRules, TLS", []map[string]string{local, secure}, []map[string]string{trusting}, ""},
		{"any certificate", []map[string]string{secure}, []map[string]string{whoever}, ""},
		{"TLS 1.2", []map[string]string{secure, {"exclude-protocols": "TLSv1.3"}}, []map[string]string{trusting}, ""},

		{"a certificate for another host", []map[string]string{secure}, []map[string]string{trusting, {"verify-hostname": "true"}}, "certificate"},
		{"a server that is not trusted", []map[string]string{secure}, []map[string]string{trusting, {"truststore": stranger}}, "certificate"},
		{"no client certificate", []map[string]string{mutual}, []map[string]string{trusting}, "handshake with"},
		{"a client that is not trusted", []map[string]string{mutual}, []map[string]string{trusting, {"certificate": stranger}}, "handshake with"},
		{"TLS to a plain source", nil, []map[string]string{trusting}, "handshake with"},
		{"plain to a TLS source", []map[string]string{secure}, nil, "handshake with"},
		{"kept out by ipFilterRules", []map[string]string{nobody}, nil, "handshake with"},
		{"kept out by ipFilterRules, TLS", []map[string]string{nobody, secure}, []map[string]string{trusting}, "handshake with"},
		{"deflate to a plain source", nil, []map[string]string{packed}, "handshake with"},
		{"plain to a deflate source", []map[string]string{packed}, nil, "handshake with"},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := start(t, merged(x.source))
			host, port, _ := net.SplitHostPort(in.Addr().String())
			keys := merged(x.sink)
			keys["hostname"], keys["port"], keys["connect-timeout"] = host, port, "5000"
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
// flume: TestAvroSource testSslRequestWithGlobalKeystore
// flume: TestAvroSink testSslProcessWithGlobalTruststore testSslProcessWithGlobalTruststoreNoPassword
func TestGlobalStores(t *testing.T) {
	none := func(string) string { return "" }
	t.Cleanup(func() { tlsconf.SetDefaults(tlsconf.ReadDefaults(none, none)) })
	for _, password := range []string{"changeit", ""} {
		vars := map[string]string{
			"FLUME_SSL_KEYSTORE_PATH": javaStores + "server.jks", "FLUME_SSL_KEYSTORE_PASSWORD": "changeit",
			"FLUME_SSL_TRUSTSTORE_PATH": javaStores + "trust.jks", "FLUME_SSL_TRUSTSTORE_PASSWORD": password,
		}
		tlsconf.SetDefaults(tlsconf.ReadDefaults(none, func(name string) string { return vars[name] }))
		in := start(t, map[string]string{"ssl": "true"})
		host, port, _ := net.SplitHostPort(in.Addr().String())
		end := open(t, map[string]string{"ssl": "true", "hostname": host, "port": port})
		deliverAll(t, end, 3)
		end.Close()
		if n := in.Out.Len(); n != 3 {
			t.Errorf("password %q: %d events arrive", password, n)
		}
	}
}

func merged(all []map[string]string) map[string]string {
	one := make(map[string]string)
	for _, m := range all {
		for k, v := range m {
			one[k] = v
		}
	}
	return one
}
