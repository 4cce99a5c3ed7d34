package sidecar

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.file, _ = a.sign(name, true)
	return a
}

// sign makes a certificate and its key, as files. The first is the authority's own.
func (a *authority) sign(name string, ca bool) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: []string{name},
	}
	if a.cert == nil {
		a.cert, a.key = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// The admin server speaks TLS; its own commands trust the certificate that they are given, and no other.
func TestAdminTLS(t *testing.T) {
	a, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := a.sign("agent.example", false)
	r := start(t, "-f", write(t, "a.conf", flow), "--admin-tls-cert", cert, "--admin-tls-key", key, "--admin-client-ca", a.file)
	r.says("msg=starting")
	for _, trusted := range []string{a.file, cert} {
		env := map[string]string{"MILLRACE_ADMIN": r.admin(), "MILLRACE_ADMIN_TLS_CERT": trusted}
		if code, _, errs := call(t, env, "healthcheck"); code != exitOK {
			t.Errorf("%s: %d %s", trusted, code, errs)
		}
		if code, out, errs := call(t, env, "top", "-n", "1"); code != exitOK || !strings.Contains(out, "agent a1") {
			t.Errorf("%s: %d %s %s", trusted, code, out, errs)
		}
	}
	if code, _, errs := call(t, nil, "healthcheck", "--admin", r.admin(), "--admin-tls-cert", other.file); code != exitFailed || !strings.Contains(errs, "certificate") {
		t.Errorf("another's certificate is trusted: %d %s", code, errs)
	}
	// A certificate that is renewed is used for the next connection.
	renewed, newKey := a.sign("renewed.example", false)
	for from, to := range map[string]string{renewed: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := call(t, nil, "healthcheck", "--admin", r.admin(), "--admin-tls-cert", cert); code != exitOK {
		t.Errorf("renewed: %d %s", code, errs)
	}
}

// From beyond loopback a client certificate is as good as a token; probes need neither.
func TestAdminTakesClientCertificates(t *testing.T) {
	a, other := newAuthority(t, "ca"), newAuthority(t, "other")
	serverCert, serverKey := a.sign("agent.example", false)
	agent := core.NewAgent(&conf.Agent{Name: "a1"}, core.World{})
	s := &adminServer{agent: agent, reloads: new(reloader), metrics: prometheusHandler(agent, new(reloader)), drain: newDrainState("a1"), tap: tapOptions{mode: tapOff}}
	secure, err := (&adminTLS{cert: serverCert, key: serverKey, clientCA: a.file}).server()
	if err != nil {
		t.Fatal(err)
	}
	afar := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "10.0.0.7:5000"
		s.ServeHTTP(w, r)
	}))
	afar.TLS = secure
	afar.StartTLS()
	defer afar.Close()
	_, port, _ := net.SplitHostPort(afar.Listener.Addr().String())
	client := func(by *authority) *adminClient {
		c := &adminClient{addr: "127.0.0.1:" + port, serverCert: a.file}
		if by != nil {
			c.cert, c.key = by.sign("client.example", false)
		}
		return c
	}
	for path, want := range map[string]bool{"/healthz": true, "/metrics": true, "/status": false} {
		if err := client(nil).ask(path, time.Minute); (err == nil) != want {
			t.Errorf("%s without a certificate: %v", path, err)
		}
	}
	if err := client(a).ask("/status", time.Minute); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := client(other).ask("/status", time.Minute); err == nil {
		t.Error("a certificate of somebody else is taken")
	}
}

func TestAdminTLSRefuses(t *testing.T) {
	a := newAuthority(t, "ca")
	cert, key := a.sign("x", false)
	for _, c := range []struct {
		tls  adminTLS
		want string
	}{
		{adminTLS{cert: cert}, "go together"},
		{adminTLS{clientCA: a.file}, "needs both"},
		{adminTLS{cert: cert, key: a.file}, "private key"},
		{adminTLS{cert: cert, key: key, clientCA: key}, "no certificate"},
		{adminTLS{cert: filepath.Join(a.dir, "none"), key: key}, "no such file"},
	} {
		if _, err := c.tls.server(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.tls, err)
		}
	}
	code, _, errs := call(t, home, "agent", "-f", write(t, "a.conf", flow), "--admin", "127.0.0.1:0", "--admin-tls-cert", cert)
	if code != exitFailed || !strings.Contains(errs, "go together") {
		t.Errorf("%d %s", code, errs)
	}
}
