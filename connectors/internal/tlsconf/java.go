package tlsconf

import (
	"strings"

	"github.com/millrace/millrace/core/conf"
)

// JavaRefused are the TLS properties of Java's clients that JavaKeys reports as an
// error; they are for the map of the caller to take.
var JavaRefused = []string{"ssl.keystore.key", "ssl.keystore.certificate.chain", "ssl.truststore.certificates", "ssl.engine.factory.class"}

// JavaKeys binds the TLS properties of Kafka's Java clients, below prefix, to c.
// The client's own check must call Java.
func JavaKeys(k *conf.Keys, c *Client, prefix string) {
	d := current()
	p := prefix + "ssl."
	k.String(&c.c.trust.path, p+"truststore.location", d.TrustStore,
		"Trust store with the certificates that sign the brokers': JKS, PKCS12 or PEM. Falls back to javax.net.ssl.trustStore, FLUME_SSL_TRUSTSTORE_PATH, then to those of the system.")
	k.String(&c.c.trust.password, p+"truststore.password", d.TrustStorePassword, "Password of the trust store; none for PEM.").Secret()
	k.String(&c.c.trust.kind, p+"truststore.type", d.TrustStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType())
	k.String(&c.c.keys.path, p+"keystore.location", d.KeyStore,
		"Key store with the client's own private key and certificates, for brokers that ask for one: JKS, PKCS12 or PEM. Falls back to javax.net.ssl.keyStore, FLUME_SSL_KEYSTORE_PATH.")
	k.String(&c.c.keys.password, p+"keystore.password", d.KeyStorePassword, "Password of the key store and of the key in it; none for PEM.").Secret()
	k.String(&c.c.keys.kind, p+"keystore.type", d.KeyStoreType, "JKS, PKCS12 or PEM. The first bytes of the file decide if they say otherwise.").Must(storeType())
	var keyPassword string
	k.String(&keyPassword, p+"key.password", "", "Password of the key in the key store, which must be that of the store.").Secret()
	c.c.includeProtocols = split(d.IncludeProtocols)
	k.Commas(&c.c.includeProtocols, p+"enabled.protocols", "TLS versions to offer; absent: TLSv1.2 and TLSv1.3.")
	c.c.includeSuites = split(d.IncludeSuites)
	k.Commas(&c.c.includeSuites, p+"cipher.suites", "Cipher suites to offer, by Java's or IANA's names; absent: all that are safe.")
	c.c.excludeProtocols, c.c.excludeSuites = split(d.ExcludeProtocols), split(d.ExcludeSuites)
	var algorithm string
	k.String(&algorithm, p+"endpoint.identification.algorithm", "https", "https: a broker's certificate must be for its host.").Must(conf.OneOf("https"))
	var anyName bool
	k.Bool(&anyName, p+"disableTLSHostnameVerification", false, "Do not look at the host name in a broker's certificate.")
	for _, name := range []string{"protocol", "provider", "keymanager.algorithm", "trustmanager.algorithm", "secure.random.implementation"} {
		k.Inert(p+name, "has no effect: there is no Java here to choose a provider or an algorithm of; see ssl.enabled.protocols")
	}
	k.Check(func(r *conf.Report) {
		c.verifyName = !anyName
		for _, name := range JavaRefused {
			if r.IsSet(prefix + name) {
				r.Error(prefix+name, "is not read here: put keys and certificates into a file and name that in ssl.keystore.location or ssl.truststore.location")
			}
		}
		if keyPassword != "" && keyPassword != c.c.keys.password {
			r.Error(p+"key.password", "must be that of the key store: change it with keytool -keypasswd")
		}
	})
}

// Java says, after JavaKeys, whether security.protocol asks for TLS.
func (c *Client) Java(r *conf.Report, prefix string, on bool) {
	c.c.on = on
	c.c.splitLists()
	if !on {
		for _, name := range []string{"truststore.location", "keystore.location", "disableTLSHostnameVerification"} {
			if r.IsSet(prefix + "ssl." + name) {
				r.Warn(prefix+"ssl."+name, "has no effect: security.protocol is neither SSL nor SASL_SSL")
			}
		}
		return
	}
	p := c.c.policy()
	java := strings.NewReplacer("include-protocols", "enabled.protocols", "include-cipher-suites", "cipher.suites")
	for _, w := range p.warnings {
		r.Warn(prefix+"ssl."+java.Replace(w.key), "%s", w.text)
	}
	if p.err != nil {
		r.Error(prefix+"ssl."+java.Replace(p.err.key), "%s", p.err.text)
	}
}
