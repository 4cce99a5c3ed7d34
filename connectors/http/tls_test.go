package http

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core/suite"
)

// certificate writes a key and a certificate for 127.0.0.1, and returns the
// file and who trusts it.
func certificate(t *testing.T) (file string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	file = filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return file, roots
}

// flume: TestHTTPSource testHttps testHttpsSourceNonHttpsClient
func TestTLS(t *testing.T) {
	file, roots := certificate(t)
	in := start(t, map[string]string{"enableSSL": "true", "certificate": file})
	c := &http.Client{Timeout: suite.Deadline, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer c.CloseIdleConnections()
	for range 2 {
		a, err := c.Post("https://"+in.addr, "application/json", strings.NewReader(`[{"body":"x"}]`))
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		if a.StatusCode != 200 || a.ProtoMajor != 1 {
			t.Errorf("answer %d, %s", a.StatusCode, a.Proto)
		}
	}
	if n := in.Len(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	plain, err := io.ReadAll(raw(t, in, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n[{\"body\":\"x\"}]"))
	if strings.Contains(string(plain), " 200 ") || in.Len() != 2 {
		t.Errorf("a client without TLS is answered %q, %v", plain, err)
	}
}
