package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Client is what the keys of a client say. ClientKeys fills it.
type Client struct {
	c          Config
	trustAll   bool
	verifyName bool
}

// ClientKeys binds the TLS keys of a client to c: Flume's, and beside them what
// a server with client-auth = need asks of it.
func ClientKeys(k *conf.Keys, c *Client) {
	d := current()
	k.Bool(&c.c.on, "ssl", false, "Speak TLS.")
	k.Bool(&c.trustAll, "trust-all-certs", false, "Take any certificate of the server: the connection is encrypted, and whoever answers may read it.")
	k.String(&c.c.trust.path, "truststore", d.TrustStore,
		"Trust store with the certificates that sign the server's: JKS, PKCS12 or PEM. Falls back to javax.net.ssl.trustStore, FLUME_SSL_TRUSTSTORE_PATH, then to those of the system.")
	k.String(&c.c.trust.password, "truststore-password", d.TrustStorePassword, "Password of the trust store.").Secret()
	k.String(&c.c.trust.kind, "truststore-type", d.TrustStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType())
	k.Bool(&c.verifyName, "verify-hostname", false, "The server's certificate must be for the host that is connected to; Flume does not look.").Since("1.0")
	k.String(&c.c.keys.path, "keystore", "", "Key store with the client's own private key and certificates, for a server that asks for one: JKS, PKCS12 or PEM.").Since("1.0")
	k.String(&c.c.keys.password, "keystore-password", d.KeyStorePassword, "Password of the key store and of the key in it; none for PEM.").Secret().Since("1.0")
	k.String(&c.c.keys.kind, "keystore-type", d.KeyStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType()).Since("1.0")
	k.String(&c.c.certificate, "certificate", "", "PEM file with the client's certificate and those that signed it, instead of a key store.").Since("1.0")
	k.String(&c.c.privateKey, "private-key", "", "PEM file with the private key, not encrypted; absent: it is in the file of the certificate.").Since("1.0")
	for _, l := range []struct {
		p              *[]string
		name, def, doc string
	}{
		{&c.c.includeProtocols, "include-protocols", d.IncludeProtocols, "TLS versions to offer, such as TLSv1.2 TLSv1.3; absent: both."},
		{&c.c.excludeProtocols, "exclude-protocols", d.ExcludeProtocols, "TLS versions not to offer; SSLv3 and all below TLSv1.2 never are."},
		{&c.c.includeSuites, "include-cipher-suites", d.IncludeSuites, "Cipher suites to offer, by Java's or IANA's names; absent: all that are safe."},
		{&c.c.excludeSuites, "exclude-cipher-suites", d.ExcludeSuites, "Cipher suites not to offer."},
	} {
		*l.p = split(l.def)
		k.Words(l.p, l.name, l.doc)
	}
	k.Check(c.check)
}

func (c *Client) check(r *conf.Report) {
	c.c.splitLists()
	if !c.c.on {
		return
	}
	switch {
	case c.c.certificate != "" && r.IsSet("keystore"):
		r.Error("certificate", "and keystore are both set: which is the client's?")
	case c.c.certificate == "" && c.c.privateKey != "":
		r.Error("private-key", "has no certificate beside it")
	}
	if c.trustAll {
		for _, key := range []string{"truststore", "verify-hostname"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect with trust-all-certs = true")
			}
		}
	}
	c.c.checkPolicy(r)
}

// Enabled reports whether ssl = true.
func (c *Client) Enabled() bool { return c.c.on }

// Client reads the stores and returns the configuration of a client, or nil
// without ssl = true. Whoever uses it clones it and sets ServerName.
func (c *Client) Client(env core.Env) (*tls.Config, error) {
	if !c.c.on {
		return nil, nil
	}
	p := c.c.policy()
	if p.err != nil {
		return nil, fmt.Errorf("%s: %s", p.err.key, p.err.text)
	}
	t := &tls.Config{MinVersion: p.min, MaxVersion: p.max, CipherSuites: p.suites}
	if c.c.keys.path != "" || c.c.certificate != "" {
		r := &renewal{c: &c.c, env: env}
		if err := r.start(); err != nil {
			return nil, err
		}
		t.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certs := r.now()
			for i := range certs {
				if asked.SupportsCertificate(&certs[i]) == nil {
					return &certs[i], nil
				}
			}
			return &certs[0], nil // the server says best what is wrong with it
		}
	}
	if c.trustAll {
		t.InsecureSkipVerify = true
		return t, nil
	}
	if c.c.trust.path != "" {
		pool, err := c.c.trust.pool(env.FS)
		if err != nil {
			return nil, fmt.Errorf("read truststore: %w", err)
		}
		t.RootCAs = pool
	}
	if !c.verifyName {
		t.InsecureSkipVerify = true // of the name; the chain is looked at here
		t.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, t.RootCAs) }
	}
	return t, nil
}

// verifyChain checks the server's certificate but for the name in it, as Flume's clients do.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server has sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}
