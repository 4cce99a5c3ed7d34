package tlsconf

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Config is what the keys of a server say. ServerKeys fills it.
type Config struct {
	on          bool
	keys        store  // with a private key
	certificate string // PEM, instead of keys
	privateKey  string
	trust       store // of the clients' certificates
	clientAuth  string

	includeProtocols, excludeProtocols []string
	includeSuites, excludeSuites       []string
}

// store is a key store or trust store as the keys name it.
type store struct{ path, password, kind string }

// Old names a key as an earlier version of Flume did.
type Old struct{ Key, Was string }

// The values of client-auth.
const (
	authNone = "none"
	authWant = "want"
	authNeed = "need"
)

// ServerKeys binds the TLS keys of a server to c. old adds older names of some
// of the keys: Old{"ssl", "enableSSL"}.
func ServerKeys(k *conf.Keys, c *Config, old ...Old) {
	d := current()
	add := func(key *conf.Key, name string) {
		for _, o := range old {
			if o.Key == name {
				key.Alias(o.Was)
			}
		}
	}
	str := func(p *string, name, def, doc string) *conf.Key {
		key := k.String(p, name, def, doc)
		add(key, name)
		return key
	}
	list := func(p *[]string, name, def, doc string) {
		*p = split(def)
		add(k.Words(p, name, doc), name)
	}
	add(k.Bool(&c.on, "ssl", false, "Speak TLS."), "ssl")
	str(&c.keys.path, "keystore", d.KeyStore,
		"Key store with the server's private key and certificates: JKS, PKCS12 or PEM. Falls back to javax.net.ssl.keyStore, FLUME_SSL_KEYSTORE_PATH.")
	str(&c.keys.password, "keystore-password", d.KeyStorePassword,
		"Password of the key store and of the key in it; none for PEM. Falls back to javax.net.ssl.keyStorePassword, FLUME_SSL_KEYSTORE_PASSWORD.").Secret()
	str(&c.keys.kind, "keystore-type", d.KeyStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType())
	str(&c.certificate, "certificate", "", "PEM file with the server's certificate and those that signed it, instead of a key store.").Since("1.0")
	str(&c.privateKey, "private-key", "", "PEM file with the private key, not encrypted; absent: it is in the file of the certificate.").Since("1.0")
	str(&c.clientAuth, "client-auth", authNone,
		"Client certificates: none asks for none, want checks one if it is sent, need refuses clients without one that truststore vouches for.").
		Must(conf.OneOf(authNone, authWant, authNeed)).Since("1.0")
	str(&c.trust.path, "truststore", d.TrustStore, "Trust store with the certificates that sign those of clients: JKS, PKCS12 or PEM. Falls back to javax.net.ssl.trustStore, FLUME_SSL_TRUSTSTORE_PATH.").Since("1.0")
	str(&c.trust.password, "truststore-password", d.TrustStorePassword, "Password of the trust store.").Secret().Since("1.0")
	str(&c.trust.kind, "truststore-type", d.TrustStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType()).Since("1.0")
	list(&c.includeProtocols, "include-protocols", d.IncludeProtocols, "TLS versions to offer, such as TLSv1.2 TLSv1.3; absent: both.")
	list(&c.excludeProtocols, "exclude-protocols", d.ExcludeProtocols, "TLS versions not to offer; SSLv3 and all below TLSv1.2 never are.")
	list(&c.includeSuites, "include-cipher-suites", d.IncludeSuites, "Cipher suites to offer, by Java's or IANA's names; absent: all that are safe.")
	list(&c.excludeSuites, "exclude-cipher-suites", d.ExcludeSuites, "Cipher suites not to offer.")
	k.Check(c.check)
}

func storeType() conf.Rule {
	return conf.That("JKS, PKCS12 or PEM (others, such as JCEKS, can be converted: keytool -importkeystore -deststoretype PKCS12)", func(text string) bool {
		switch strings.ToUpper(text) {
		case "JKS", "PKCS12", "P12", "PEM":
			return true
		}
		return false
	})
}

// split reads a list as Flume's do, and also one that has commas, which in
// Flume are part of a name that then fits nothing.
func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

func (c *Config) check(r *conf.Report) {
	c.splitLists()
	if !c.on {
		return
	}
	switch {
	case c.certificate != "" && r.IsSet("keystore"):
		r.Error("certificate", "and keystore are both set: which is the server's?")
	case c.certificate == "" && c.privateKey != "":
		r.Error("private-key", "has no certificate beside it")
	case c.certificate != "":
	case c.keys.path == "":
		r.Error("keystore", "is required with ssl = true, or certificate")
	case c.keys.password == "" && !c.keys.looksPEM():
		r.Error("keystore-password", "is required: keystore has a password unless it is PEM (then write keystore-type = PEM)")
	}
	switch {
	case c.clientAuth != authNone && c.trust.path == "":
		r.Error("client-auth", "%q needs a truststore to check certificates by", c.clientAuth)
	case c.clientAuth == authNone && r.IsSet("truststore"):
		r.Warn("truststore", "has no effect without client-auth = need, or want")
	}
	c.checkPolicy(r)
}

func (c *Config) splitLists() {
	for _, l := range []*[]string{&c.includeProtocols, &c.excludeProtocols, &c.includeSuites, &c.excludeSuites} {
		*l = split(strings.Join(*l, " "))
	}
}

// checkPolicy reports what the lists of protocols and suites come to.
func (c *Config) checkPolicy(r *conf.Report) {
	p := c.policy()
	for _, w := range p.warnings {
		r.Warn(w.key, "%s", w.text)
	}
	if p.err != nil {
		r.Error(p.err.key, "%s", p.err.text)
	}
}

// looksPEM tells by type and name; the file itself may be on another machine.
func (s store) looksPEM() bool {
	if strings.EqualFold(s.kind, "PEM") {
		return true
	}
	switch strings.ToLower(filepath.Ext(s.path)) {
	case ".pem", ".crt", ".cer", ".key":
		return true
	}
	return false
}

// Enabled reports whether ssl = true.
func (c *Config) Enabled() bool { return c.on }

// Server reads the key store and returns the configuration of a server, or nil
// without ssl = true. It renews its certificate by itself and may be cloned.
func (c *Config) Server(env core.Env) (*tls.Config, error) {
	if !c.on {
		return nil, nil
	}
	p := c.policy()
	if p.err != nil {
		return nil, fmt.Errorf("%s: %s", p.err.key, p.err.text)
	}
	r := &renewal{c: c, env: env}
	if err := r.start(); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: p.min, MaxVersion: p.max, CipherSuites: p.suites, GetCertificate: r.certificate}
	if c.clientAuth == authNone {
		return t, nil
	}
	pool, err := c.trust.pool(env.FS)
	if err != nil {
		return nil, fmt.Errorf("read truststore: %w", err)
	}
	t.ClientCAs, t.ClientAuth = pool, tls.VerifyClientCertIfGiven
	if c.clientAuth == authNeed {
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}
