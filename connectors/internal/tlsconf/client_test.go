package tlsconf

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/conf"
)

type clientBinder struct{ c *Client }

func (b clientBinder) Keys(k *conf.Keys) { ClientKeys(k, b.c) }

func bindClient(props map[string]string) (*Client, string) {
	c := new(Client)
	_, faults := conf.Bind(clientBinder{c}, props)
	var lines []string
	for _, f := range faults {
		lines = append(lines, f.Severity.String()+" "+f.String())
	}
	return c, strings.Join(lines, "\n")
}

func TestClientKeys(t *testing.T) {
	for want, props := range map[string]map[string]string{
		"": {"ssl": "true"}, // then the system's certificates decide
		"error certificate: and keystore are both set":              {"ssl": "true", "certificate": "a", "keystore": "b"},
		"error private-key: has no certificate":                     {"ssl": "true", "private-key": "a"},
		"warning truststore: has no effect with trust-all-certs":    {"ssl": "true", "trust-all-certs": "true", "truststore": "a"},
		"error include-protocols: leave nothing to offer":           {"ssl": "true", "exclude-protocols": "TLSv1.2,TLSv1.3"},
		"error truststore-type: \"BKS\" must be JKS, PKCS12 or PEM": {"ssl": "true", "truststore-type": "BKS"},
	} {
		c, got := bindClient(props)
		if want == "" && got != "" || !strings.HasPrefix(got, want) || want == "" && !c.Enabled() {
			t.Errorf("%v: %q, want %q", props, got, want)
		}
	}
	if c, _ := bindClient(map[string]string{"truststore": "/nowhere"}); c.Enabled() {
		t.Error("enabled without ssl")
	} else if conf, err := c.Client(env()); conf != nil || err != nil {
		t.Errorf("without ssl: %v, %v", conf, err)
	}
	for key, want := range map[string]string{"truststore": "read truststore: ", "keystore": "read keystore: ", "certificate": "read certificate: "} {
		c, _ := bindClient(map[string]string{"ssl": "true", key: "/nowhere"})
		if _, err := c.Client(env()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", key, err, want)
		}
	}
}

// Who signed the server's certificate is looked at; the name in it if that is asked for.
func TestClientVerifies(t *testing.T) {
	dir := t.TempDir()
	ca, other := issue(t, "ca", nil), issue(t, "other", nil)
	server := issue(t, "server", ca) // for localhost
	files := map[string][]byte{"ca.pem": ca.certPEM(), "other.pem": other.certPEM()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair := tls.Certificate{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}
	for _, c := range []struct {
		name, host string
		props      map[string]string
		fails      bool
	}{
		{"signed by whom is trusted", "elsewhere", map[string]string{"truststore": "ca.pem"}, false},
		{"signed by another", "localhost", map[string]string{"truststore": "other.pem"}, true},
		{"signed by another, no matter", "localhost", map[string]string{"trust-all-certs": "true"}, false},
		{"signed by nobody the system knows", "localhost", nil, true},
		{"the name is right", "localhost", map[string]string{"truststore": "ca.pem", "verify-hostname": "true"}, false},
		{"the name is wrong", "elsewhere", map[string]string{"truststore": "ca.pem", "verify-hostname": "true"}, true},
	} {
		props := map[string]string{"ssl": "true"}
		for k, v := range c.props {
			if k == "truststore" {
				v = filepath.Join(dir, v)
			}
			props[k] = v
		}
		b, faults := bindClient(props)
		if faults != "" {
			t.Fatal(faults)
		}
		client, err := b.Client(env())
		if err != nil {
			t.Fatal(err)
		}
		client.ServerName = c.host
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if s, err := l.Accept(); err == nil {
				_ = s.(*tls.Conn).Handshake() // the client tells how it went
				_ = s.Close()
			}
		}()
		to, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(to, client).Handshake(); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
		_ = to.Close()
		<-done
		_ = l.Close()
	}
}
