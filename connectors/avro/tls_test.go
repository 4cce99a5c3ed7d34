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

// From our sink to our source: plain, deflate at every level, TLS, both.
func TestHop(t *testing.T) {
	server, client, stranger := certificate(t, "elsewhere"), certificate(t, "client"), certificate(t, "stranger")
	secure := map[string]string{"ssl": "true", "keystore": server}
	mutual := map[string]string{"ssl": "true", "keystore": server, "client-auth": "need", "truststore": client}
	packed := map[string]string{"compression-type": "deflate"}
	trusting := map[string]string{"ssl": "true", "truststore": server}
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
		{"any certificate", []map[string]string{secure}, []map[string]string{{"ssl": "true", "trust-all-certs": "true"}}, ""},
		{"TLS 1.2", []map[string]string{secure, {"exclude-protocols": "TLSv1.3"}}, []map[string]string{trusting}, ""},

		{"a certificate for another host", []map[string]string{secure}, []map[string]string{trusting, {"verify-hostname": "true"}}, "certificate"},
		{"a server that is not trusted", []map[string]string{secure}, []map[string]string{trusting, {"truststore": stranger}}, "certificate"},
		{"no client certificate", []map[string]string{mutual}, []map[string]string{trusting}, "handshake with"},
		{"a client that is not trusted", []map[string]string{mutual}, []map[string]string{trusting, {"certificate": stranger}}, "handshake with"},
		{"TLS to a plain source", nil, []map[string]string{trusting}, "handshake with"},
		{"plain to a TLS source", []map[string]string{secure}, nil, "handshake with"},
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

func merged(all []map[string]string) map[string]string {
	one := make(map[string]string)
	for _, m := range all {
		for k, v := range m {
			one[k] = v
		}
	}
	return one
}
