package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is as much of an API server as a bundle needs.
type server struct {
	mu       sync.Mutex
	version  int
	bundles  [][]byte // of the webhooks
	meanings int      // how often somebody else is faster
	account  string   // directory
	env      map[string]string
	token    string
}

func newServer(t *testing.T, bundles ...[]byte) (*server, *Cluster) {
	t.Helper()
	s := &server{version: 1, bundles: bundles, account: t.TempDir(), token: "secret-token"}
	web := httptest.NewTLSServer(s)
	t.Cleanup(web.Close)
	host, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.env = map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	for name, text := range map[string]string{"ca.crt": string(ca), "token": s.token + "\n", "namespace": "millrace\n"} {
		if err := os.WriteFile(filepath.Join(s.account, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := InCluster(s.lookup, s.account)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func (s *server) lookup(name string) (string, bool) {
	v, ok := s.env[name]
	return v, ok
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(code int, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"message": message})
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer "+s.token:
		fail(403, "who is this?")
		return
	case r.URL.Path != "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/inject":
		fail(404, "there is no such thing")
		return
	case r.Method == "PATCH":
		var ops []struct {
			Path  string
			Value string
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &ops); err != nil || r.Header.Get("Content-Type") != "application/json-patch+json" {
			fail(400, "no patch")
			return
		}
		if s.meanings > 0 {
			s.meanings--
			s.version++
		}
		for _, op := range ops {
			if op.Path == "/metadata/resourceVersion" {
				if op.Value != strconv.Itoa(s.version) {
					fail(409, "the object has been modified")
					return
				}
				continue
			}
			i, err := strconv.Atoi(strings.Split(op.Path, "/")[2])
			if err != nil || i >= len(s.bundles) {
				fail(422, op.Path)
				return
			}
			if err := json.Unmarshal([]byte(`"`+op.Value+`"`), &s.bundles[i]); err != nil {
				fail(422, err.Error())
				return
			}
		}
		s.version++
	}
	var hooks []any
	for _, b := range s.bundles {
		hooks = append(hooks, map[string]any{"name": "x", "clientConfig": map[string]any{"caBundle": b}})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "webhooks": hooks})
}

// trusts tells whether a client that trusts a bundle takes a certificate under a name.
func trusts(t *testing.T, bundle []byte, c *Certificate, name string) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: c.Get})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake() // the client says what is wrong
			_ = conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// Replicas add their certificates to every webhook of the configuration, also when
// others change it meanwhile, and each is trusted by what comes of it.
func TestBundle(t *testing.T) {
	s, cluster := newServer(t, nil, []byte("not a certificate"))
	s.meanings = 3
	b := &Bundle{Cluster: cluster, Name: "inject", Now: time.Now}
	var certs []*Certificate
	for range 2 {
		c, err := SelfMade([]string{"hook.millrace.svc", "127.0.0.1"}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
		if added, err := b.Trust(t.Context(), c.PEM()); !added || err != nil {
			t.Fatal(added, err)
		}
	}
	for _, c := range certs {
		if added, err := b.Trust(t.Context(), c.PEM()); added || err != nil {
			t.Error("again:", added, err)
		}
		for _, bundle := range s.bundles {
			if err := trusts(t, bundle, c, "hook.millrace.svc"); err != nil {
				t.Error(err)
			}
			if err := trusts(t, bundle, c, "127.0.0.1"); err != nil {
				t.Error(err)
			}
			if trusts(t, bundle, c, "other.millrace.svc") == nil {
				t.Error("it is trusted under another name")
			}
		}
	}
	s.meanings = 1000
	s.bundles[0] = nil
	if _, err := b.Trust(t.Context(), certs[0].PEM()); !errors.Is(err, errConflict) {
		t.Error(err)
	}
}

// What keeps a bundle from being changed is said with the answer of the API server, and never with the token.
func TestBundleFails(t *testing.T) {
	s, cluster := newServer(t, nil)
	c, err := SelfMade([]string{"x"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(name, says string) {
		t.Helper()
		_, err := (&Bundle{Cluster: cluster, Name: name, Now: time.Now}).Trust(t.Context(), c.PEM())
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), s.token) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fails("other", "there is no such thing")
	s.bundles = nil
	fails("inject", "no webhooks")
	s.token = "another"
	fails("inject", "who is this?")
	if err := os.Remove(filepath.Join(s.account, "token")); err != nil {
		t.Fatal(err)
	}
	fails("inject", "token")
	for _, gone := range slices.Sorted(maps.Keys(s.env)) {
		delete(s.env, gone)
		if _, err := InCluster(s.lookup, s.account); err == nil || !strings.Contains(err.Error(), "no pod") {
			t.Error(err)
		}
	}
}

// A bundle does not grow for ever, and keeps nothing that is over.
func TestBundleIsBounded(t *testing.T) {
	now := time.Now()
	var bundle []byte
	var last *Certificate
	for i := range maxBundle + 5 {
		at := now
		if i == maxBundle {
			at = now.Add(-2 * Lifetime)
		}
		c, err := SelfMade([]string{"x"}, func() time.Time { return at })
		if err != nil {
			t.Fatal(err)
		}
		bundle, last = withCertificate(bundle, c.PEM(), now), c
	}
	if n := bytes.Count(bundle, []byte("BEGIN")); n != maxBundle || !bytes.HasSuffix(bundle, last.PEM()) {
		t.Error(n)
	}
	old, err := SelfMade([]string{"x"}, func() time.Time { return now.Add(-2 * Lifetime) })
	if err != nil {
		t.Fatal(err)
	}
	if got := withCertificate(old.PEM(), last.PEM(), now); !bytes.Equal(got, last.PEM()) {
		t.Errorf("%s", got)
	}
}

// A self-made certificate is replaced in time: trusted first, shown a look later.
func TestRenew(t *testing.T) {
	now := time.Now()
	c, err := SelfMade([]string{"x"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first := c.PEM()
	var told []byte
	trust := func(cert []byte) error { told = cert; return nil }
	if renewed, err := c.Renew(trust); renewed || err != nil || told != nil {
		t.Fatal(renewed, err, told)
	}
	now = now.Add(Lifetime*2/3 + time.Second)
	refuse := errors.New("no")
	if _, err := c.Renew(func([]byte) error { return refuse }); !errors.Is(err, refuse) || !bytes.Equal(c.PEM(), first) {
		t.Fatal(err)
	}
	if renewed, err := c.Renew(trust); renewed || err != nil || told == nil || !bytes.Equal(c.PEM(), first) {
		t.Fatal(renewed, err)
	}
	if renewed, err := c.Renew(trust); !renewed || err != nil || !bytes.Equal(c.PEM(), told) || c.Expires().Before(now.Add(Lifetime-time.Minute)) {
		t.Fatal(renewed, err)
	}
	now = c.Expires().Add(-time.Hour)
	if renewed, err := c.Renew(nil); !renewed || err != nil {
		t.Fatal(renewed, err)
	}
}

// A certificate in files is read again when they change, and a bad one changes nothing.
func TestFromFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put := func() []byte {
		c, err := SelfMade([]string{"x"}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(c.now.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(certFile, c.PEM(), 0o600),
			os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600)); err != nil {
			t.Fatal(err)
		}
		return c.PEM()
	}
	if _, err := FromFiles(certFile, keyFile); err == nil {
		t.Fatal("it has a certificate from nowhere")
	}
	first := put()
	c, err := FromFiles(certFile, keyFile)
	if err != nil || !bytes.Equal(c.PEM(), first) {
		t.Fatal(err)
	}
	if renewed, err := c.Renew(nil); renewed || err != nil {
		t.Fatal(renewed, err)
	}
	second := put()
	if renewed, err := c.Renew(nil); !renewed || err != nil || !bytes.Equal(c.PEM(), second) {
		t.Fatal(renewed, err)
	}
	if err := os.WriteFile(keyFile, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if renewed, err := c.Renew(nil); renewed || err == nil || !strings.Contains(err.Error(), keyFile) || !bytes.Equal(c.PEM(), second) {
		t.Fatal(renewed, err)
	}
}
