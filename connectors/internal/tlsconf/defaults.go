package tlsconf

import "sync/atomic"

// Defaults are the values that hold for all components where their own key is
// absent. They never switch TLS on.
type Defaults struct {
	KeyStore, KeyStorePassword, KeyStoreType       string
	TrustStore, TrustStorePassword, TrustStoreType string
	IncludeProtocols, ExcludeProtocols             string // separated by blanks or commas
	IncludeSuites, ExcludeSuites                   string
}

var defaults atomic.Pointer[Defaults]

// SetDefaults makes d the defaults of all keys bound from now on. The program
// calls it once, before it reads a configuration.
func SetDefaults(d Defaults) { defaults.Store(&d) }

func current() Defaults {
	if d := defaults.Load(); d != nil {
		return *d
	}
	return Defaults{KeyStoreType: "JKS", TrustStoreType: "JKS"}
}

// ReadDefaults takes the defaults from system properties (-Dname=value) and,
// where one is not set, from the environment variable that stands for it.
// Both look-ups answer "" for what is not set.
func ReadDefaults(property, env func(name string) string) Defaults {
	read := func(prop, variable string) string {
		if v := property(prop); v != "" {
			return v
		}
		return env(variable)
	}
	d := Defaults{
		KeyStore:           read("javax.net.ssl.keyStore", "FLUME_SSL_KEYSTORE_PATH"),
		KeyStorePassword:   read("javax.net.ssl.keyStorePassword", "FLUME_SSL_KEYSTORE_PASSWORD"),
		KeyStoreType:       read("javax.net.ssl.keyStoreType", "FLUME_SSL_KEYSTORE_TYPE"),
		TrustStore:         read("javax.net.ssl.trustStore", "FLUME_SSL_TRUSTSTORE_PATH"),
		TrustStorePassword: read("javax.net.ssl.trustStorePassword", "FLUME_SSL_TRUSTSTORE_PASSWORD"),
		TrustStoreType:     read("javax.net.ssl.trustStoreType", "FLUME_SSL_TRUSTSTORE_TYPE"),
		IncludeProtocols:   read("flume.ssl.include.protocols", "FLUME_SSL_INCLUDE_PROTOCOLS"),
		ExcludeProtocols:   read("flume.ssl.exclude.protocols", "FLUME_SSL_EXCLUDE_PROTOCOLS"),
		IncludeSuites:      read("flume.ssl.include.cipherSuites", "FLUME_SSL_INCLUDE_CIPHERSUITES"),
		ExcludeSuites:      read("flume.ssl.exclude.cipherSuites", "FLUME_SSL_EXCLUDE_CIPHERSUITES"),
	}
	if d.KeyStoreType == "" {
		d.KeyStoreType = "JKS"
	}
	if d.TrustStoreType == "" {
		d.TrustStoreType = "JKS"
	}
	return d
}
