package tlsconf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/vfs"
)

type binder struct{ c *Config }

func (b binder) Keys(k *conf.Keys) { ServerKeys(k, b.c, Old{"ssl", "enableSSL"}) }

func bind(t *testing.T, props map[string]string) (*Config, string) {
	t.Helper()
	c := new(Config)
	_, faults := conf.Bind(binder{c}, props)
	var lines []string
	for _, f := range faults {
		lines = append(lines, f.Severity.String()+" "+f.String())
	}
	return c, strings.Join(lines, "\n")
}

func env() core.Env { return core.Env{FS: vfs.OS(), Now: time.Now, Log: slog.New(slog.DiscardHandler)} }

// pki makes a key pair signed by parent, or by itself.
type pki struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, name string, parent *pki) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	signer, signKey := tmpl, key
	if parent != nil {
		signer, signKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, signer, &key.PublicKey, signKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pki{cert, key}
}

func (p *pki) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p *pki) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake shakes hands over a pipe and returns what the client and the server say of it.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	answer := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("."))
		}
		a.Close()
		answer <- err
	}()
	c := tls.Client(b, client)
	err := c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1)) // TLS 1.3 refuses a client after its handshake
	}
	b.Close()
	return c.ConnectionState(), err, <-answer
}

func TestStores(t *testing.T) {
	for _, name := range []string{"server.jks", "server.p12", "mixed.p12"} {
		c, faults := bind(t, map[string]string{"ssl": "true", "keystore": "testdata/" + name, "keystore-password": "changeit"})
		if faults != "" {
			t.Errorf("%s: %s", name, faults)
		}
		server, err := c.Server(env())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err, _ := shake(t, server, &tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrustStores(t *testing.T) {
	for _, s := range []store{
		{path: "trust.jks", password: "changeit"},
		{path: "trust.p12", password: "changeit"},
		{path: "mixed.p12", password: "changeit"},
		{path: "trust.jks"}, // as Java does: its certificates are not encrypted
	} {
		s.path = "testdata/" + s.path
		if _, err := s.pool(vfs.OS()); err != nil {
			t.Errorf("%s with the password %q: %v", s.path, s.password, err)
		}
	}
	if _, err := (store{}).trusted([]byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2}); err == nil {
		t.Error("a store that is cut off is taken")
	}
}

func TestStoresThatFail(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, "ca", nil)
	other := issue(t, "other", nil)
	write(t, dir+"/half.pem", ca.certPEM())
	write(t, dir+"/wrong.pem", append(ca.certPEM(), other.keyPEM(t)...))
	write(t, dir+"/locked.pem", append(ca.certPEM(), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})...))
	write(t, dir+"/log.jks", bytes.Repeat([]byte("a line of a log\n"), 300<<10))
	write(t, dir+"/text.jks", []byte("a line of a log\n"))
	for _, tt := range []struct{ path, password, want string }{
		{"testdata/server.jks", "wrong", "wrong password"},
		{"testdata/server.p12", "wrong", "password incorrect"},
		{"testdata/server.jceks", "changeit", "JCEKS"},
		{"testdata/trust.jks", "changeit", "no private key"},
		{"testdata/missing.jks", "changeit", "no such file"},
		{dir + "/half.pem", "", "private key"},
		{dir + "/wrong.pem", "", "private key does not match"},
		{dir + "/locked.pem", "", "is encrypted"},
		{dir + "/log.jks", "x", "larger than"},
		{dir + "/text.jks", "x", "neither PEM nor JKS nor PKCS12"},
	} {
		_, err := store{path: tt.path, password: tt.password}.load(vfs.OS())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one about %q", tt.path, err, tt.want)
		}
	}
}

func TestKeys(t *testing.T) {
	ks := func(more ...string) map[string]string {
		m := map[string]string{"ssl": "true", "keystore": "a.jks", "keystore-password": "secret"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		props map[string]string
		want  string // part of the faults; "" for none
	}{
		{nil, ""},
		{map[string]string{"keystore": "a.jks"}, ""},
		{ks(), ""},
		{map[string]string{"ssl": "true"}, "error keystore: is required"},
		{map[string]string{"enableSSL": "true"}, "warning enableSSL: is an old name"},
		{map[string]string{"ssl": "true", "keystore": "a.jks"}, "error keystore-password: is required"},
		{map[string]string{"ssl": "true", "keystore": "a.pem"}, ""},
		{map[string]string{"ssl": "true", "certificate": "a.crt", "private-key": "a.key"}, ""},
		{ks("certificate", "a.crt"), "error certificate: and keystore are both set"},
		{map[string]string{"ssl": "true", "private-key": "a.key"}, "error private-key: has no certificate"},
		{ks("keystore-type", "jceks"), "error keystore-type: \"jceks\" must be JKS, PKCS12 or PEM"},
		{ks("client-auth", "need"), "error client-auth: \"need\" needs a truststore"},
		{ks("truststore", "t.jks"), "warning truststore: has no effect"},
		{ks("include-protocols", "TLSv1.2 TLSv1.3"), ""},
		{ks("include-protocols", "TLSv1.2,TLSv1.3"), ""},
		{ks("include-protocols", "TLSv1 TLSv1.2"), "warning include-protocols: TLSv1 is not safe"},
		{ks("include-protocols", "TLSv1"), "error include-protocols: leave nothing"},
		{ks("exclude-protocols", "TLSv1.2 TLSv1.3"), "error include-protocols: leave nothing"},
		{ks("include-protocols", "TLSv9 TLSv1.3"), "warning include-protocols: TLSv9 is not a protocol"},
		{ks("include-cipher-suites", "TLS_NO_SUCH"), "error include-cipher-suites: leave no cipher suite"},
		{ks("exclude-cipher-suites", "TLS_AES_128_GCM_SHA256"), "warning exclude-cipher-suites: TLSv1.3 is not offered"},
	} {
		_, got := bind(t, tt.props)
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%v: faults %q, want %q", tt.props, got, tt.want)
		}
		if strings.Contains(got, "secret") {
			t.Errorf("%v: faults show the password: %q", tt.props, got)
		}
	}
}

// flume: TestHTTPSource testHttpsSSLv3
func TestPolicy(t *testing.T) {
	const gcm, cbc, rsa = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_GCM_SHA256"
	all13 := []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
	for _, tt := range []struct {
		name     string
		c        Config
		min, max uint16
		suites   int // of TLS 1.2; -1: Go's choice
	}{
		{"default", Config{}, tls.VersionTLS12, tls.VersionTLS13, -1},
		{"without 1.3", Config{excludeProtocols: []string{"tlsv1.3"}}, tls.VersionTLS12, tls.VersionTLS12, -1},
		{"exclude wins", Config{includeProtocols: []string{"TLSv1.2", "TLSv1.3"}, excludeProtocols: []string{"TLSv1.2"}}, tls.VersionTLS13, tls.VersionTLS13, -1},
		{"one suite of 1.2", Config{includeSuites: []string{gcm}}, tls.VersionTLS12, tls.VersionTLS12, 1},
		{"old prefix", Config{includeSuites: []string{strings.Replace(cbc, "TLS_", "SSL_", 1)}}, tls.VersionTLS12, tls.VersionTLS12, 1},
		{"asked for by name", Config{includeSuites: []string{gcm, rsa}}, tls.VersionTLS12, tls.VersionTLS12, 2},
		{"unsafe", Config{includeSuites: []string{gcm, "SSL_RSA_WITH_3DES_EDE_CBC_SHA"}}, tls.VersionTLS12, tls.VersionTLS12, 1},
		{"all of 1.3", Config{includeSuites: all13}, tls.VersionTLS13, tls.VersionTLS13, 0},
		{"none of 1.3", Config{excludeSuites: append([]string{gcm}, all13...)}, tls.VersionTLS12, tls.VersionTLS12, 9},
	} {
		p := tt.c.policy()
		n := len(p.suites)
		if p.suites == nil {
			n = -1
		}
		if p.err != nil || p.min != tt.min || p.max != tt.max || n != tt.suites {
			t.Errorf("%s: versions %x to %x, %d suites, %v; want %x to %x, %d", tt.name, p.min, p.max, n, p.err, tt.min, tt.max, tt.suites)
		}
	}
}

func TestClientAuth(t *testing.T) {
	dir := t.TempDir()
	ca, stranger := issue(t, "ca", nil), issue(t, "stranger", nil)
	serverCert, good, bad := issue(t, "localhost", ca), issue(t, "client", ca), issue(t, "client", stranger)
	write(t, dir+"/s.crt", append(serverCert.certPEM(), ca.certPEM()...))
	write(t, dir+"/s.key", serverCert.keyPEM(t))
	write(t, dir+"/ca.pem", ca.certPEM())
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, tt := range []struct {
		auth   string
		client *pki
		ok     bool
	}{
		{"none", nil, true}, {"want", nil, true}, {"want", good, true}, {"want", bad, false}, {"need", nil, false}, {"need", good, true}, {"need", bad, false},
	} {
		c, faults := bind(t, map[string]string{"ssl": "true", "certificate": dir + "/s.crt", "private-key": dir + "/s.key", "truststore": dir + "/ca.pem", "client-auth": tt.auth})
		if strings.Contains(faults, "error") {
			t.Fatal(faults)
		}
		server, err := c.Server(env())
		if err != nil {
			t.Fatal(err)
		}
		client := &tls.Config{RootCAs: roots, ServerName: "localhost"}
		if tt.client != nil {
			own := tls.Certificate{Certificate: [][]byte{tt.client.cert.Raw}, PrivateKey: tt.client.key}
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}
		_, clientErr, serverErr := shake(t, server, client)
		if ok := clientErr == nil && serverErr == nil; ok != tt.ok {
			t.Errorf("client-auth %s, certificate %v: %v, %v", tt.auth, tt.client != nil, clientErr, serverErr)
		}
	}
}

func TestRenewal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.pem")
	one, two := issue(t, "one", nil), issue(t, "two", nil)
	write(t, path, append(one.certPEM(), one.keyPEM(t)...))
	c, faults := bind(t, map[string]string{"ssl": "true", "keystore": path})
	if faults != "" {
		t.Fatal(faults)
	}
	now := time.Now()
	e := env()
	e.Now = func() time.Time { return now }
	server, err := c.Server(e)
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		state, err, _ := shake(t, server, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].Subject.CommonName
	}
	for i, step := range []struct {
		file []byte
		want string
	}{
		{nil, "one"},
		{two.certPEM(), "one"}, // half written
		{append(two.certPEM(), two.keyPEM(t)...), "two"},
		{nil, "two"},
	} {
		if step.file != nil {
			write(t, path, step.file)
			if err := os.Chtimes(path, now, now.Add(time.Duration(i)*time.Hour)); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Minute)
		}
		if got := name(); got != step.want {
			t.Errorf("step %d: certificate of %s, want %s", i, got, step.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if got := name(); got != "two" {
		t.Errorf("file removed: certificate of %s", got)
	}
}

// flume: TestHTTPSource testHttpsGlobalKeystore
func TestDefaults(t *testing.T) {
	t.Cleanup(func() { defaults.Store(nil) })
	props := map[string]string{"javax.net.ssl.keyStore": "testdata/server.jks"}
	vars := map[string]string{"FLUME_SSL_KEYSTORE_PATH": "no", "FLUME_SSL_KEYSTORE_PASSWORD": "changeit", "FLUME_SSL_EXCLUDE_PROTOCOLS": "TLSv1.3,SSLv3"}
	SetDefaults(ReadDefaults(func(n string) string { return props[n] }, func(n string) string { return vars[n] }))
	c, faults := bind(t, map[string]string{"ssl": "true"})
	if faults != "" {
		t.Fatal(faults)
	}
	server, err := c.Server(env())
	if err != nil {
		t.Fatal(err)
	}
	if server.MaxVersion != tls.VersionTLS12 {
		t.Errorf("TLS 1.3 is offered")
	}
	if c, _ := bind(t, nil); c.Enabled() {
		t.Error("defaults switch TLS on")
	}
	off := new(Config)
	if server, err := off.Server(env()); server != nil || err != nil {
		t.Errorf("without ssl: %v, %v", server, errors.Join(err))
	}
}

// Each default comes from the system property, or else from the environment, or else is Flume's.
//
// flume: SSLUtil testKeystorePath testKeystorePassword testKeystoreType testKeystoreTypeWithDefault
// flume: SSLUtil testTruststorePath testTruststorePassword testTruststoreType testTruststoreTypeWithDefault
// flume: SSLUtil testIncludeProtocols testExcludeProtocols testIncludeCipherSuites testExcludeCipherSuites
func TestReadDefaults(t *testing.T) {
	none := func(string) string { return "" }
	for _, c := range []struct {
		property, variable, standard string
		of                           func(Defaults) string
	}{
		{"javax.net.ssl.keyStore", "FLUME_SSL_KEYSTORE_PATH", "", func(d Defaults) string { return d.KeyStore }},
		{"javax.net.ssl.keyStorePassword", "FLUME_SSL_KEYSTORE_PASSWORD", "", func(d Defaults) string { return d.KeyStorePassword }},
		{"javax.net.ssl.keyStoreType", "FLUME_SSL_KEYSTORE_TYPE", "JKS", func(d Defaults) string { return d.KeyStoreType }},
		{"javax.net.ssl.trustStore", "FLUME_SSL_TRUSTSTORE_PATH", "", func(d Defaults) string { return d.TrustStore }},
		{"javax.net.ssl.trustStorePassword", "FLUME_SSL_TRUSTSTORE_PASSWORD", "", func(d Defaults) string { return d.TrustStorePassword }},
		{"javax.net.ssl.trustStoreType", "FLUME_SSL_TRUSTSTORE_TYPE", "JKS", func(d Defaults) string { return d.TrustStoreType }},
		{"flume.ssl.include.protocols", "FLUME_SSL_INCLUDE_PROTOCOLS", "", func(d Defaults) string { return d.IncludeProtocols }},
		{"flume.ssl.exclude.protocols", "FLUME_SSL_EXCLUDE_PROTOCOLS", "", func(d Defaults) string { return d.ExcludeProtocols }},
		{"flume.ssl.include.cipherSuites", "FLUME_SSL_INCLUDE_CIPHERSUITES", "", func(d Defaults) string { return d.IncludeSuites }},
		{"flume.ssl.exclude.cipherSuites", "FLUME_SSL_EXCLUDE_CIPHERSUITES", "", func(d Defaults) string { return d.ExcludeSuites }},
	} {
		is := func(name string) func(string) string {
			return func(n string) string {
				if n == name {
					return "of " + n
				}
				return ""
			}
		}
		for _, got := range [][2]string{
			{c.of(ReadDefaults(is(c.property), is(c.variable))), "of " + c.property},
			{c.of(ReadDefaults(none, is(c.variable))), "of " + c.variable},
			{c.of(ReadDefaults(none, none)), c.standard},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: %q, want %q", c.property, got[0], got[1])
			}
		}
	}
}
