package syslog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// certificate makes a key pair that signs itself, for server and client alike,
// and writes both into a file.
func certificate(t testing.TB, path string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
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
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	if err := os.WriteFile(path, append(cert, private...), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pair, pool
}

// flume: TestSyslogTcpSource testSSLMessages
// flume: TestMultiportSyslogTCPSource testMultiplePortsSSL
func TestSuiteTLS(t *testing.T) {
	path := t.TempDir() + "/server.pem"
	_, pool := certificate(t, path)
	for _, source := range []core.Type[core.Source]{TCP, Multiport} {
		t.Run(source.Name, func(t *testing.T) {
			s := subject(source, false, func(t testing.TB) map[string]string {
				keys := ports(t)
				if source.Name == Multiport.Name {
					keys["ports"] = "0 0"
					delete(keys, "port")
				}
				keys["ssl"], keys["keystore"] = "true", path
				return keys
			})
			s.Feed = func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
				return feed(t, func() (net.Conn, error) {
					return tls.Dial("tcp", in.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
				}, bodies, false)
			}
			sourcetest.Run(t, s)
		})
	}
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	_, pool := certificate(t, dir+"/server.pem")
	known, _ := certificate(t, dir+"/client.pem")
	unknown, _ := certificate(t, dir+"/stranger.pem")
	in := start(t, TCP, map[string]string{"ssl": "true", "keystore": dir + "/server.pem", "truststore": dir + "/client.pem", "client-auth": "need"})
	send := func(certs ...tls.Certificate) {
		t.Helper()
		c, err := tls.Dial("tcp", in.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return new(tls.Certificate), nil
			}
			return &certs[0], nil
		}})
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(line("x")))
		c.Close()
	}
	failures := in.Env.Metrics.Counter("tls_handshake_failures_total", "")
	send()
	send(unknown)
	suite.Eventually(t, "both are refused", func() bool { return failures.Load() == 2 })
	send(known)
	events(t, in, 1)
	// Who does not speak TLS at all is refused too.
	c := connect(t, in)
	write(t, c, line(strings.Repeat("plain", 10)))
	suite.Eventually(t, "plain text is refused", func() bool { return failures.Load() == 3 })
	if n := in.Out.Len(); n != 1 {
		t.Errorf("%d events", n)
	}
}

// A file that is no key store fails at Open, and a port that is taken as well.
func TestOpenFails(t *testing.T) {
	path := t.TempDir() + "/x.pem"
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, taken, _ := net.SplitHostPort(l.Addr().String())
	for _, tt := range []struct {
		keys map[string]string
		want string
	}{
		{map[string]string{"port": "0", "ssl": "true", "keystore": path}, "read keystore: " + path + ": neither PEM nor JKS nor PKCS12"},
		{map[string]string{"host": "127.0.0.1", "port": taken}, "listen: "},
		{map[string]string{"path": path + "/s"}, "listen: "},
	} {
		if _, err := open(t, tt.keys); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.keys, err, tt.want)
		}
	}
}
