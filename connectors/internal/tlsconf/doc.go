// Package tlsconf is the one family of TLS keys that all connectors share:
// Flume's names and meaning, and beside them what Flume lacks.
//
//	ServerKeys(k, &c.tls)              binds ssl, keystore, ...; checks across keys
//	conf, err := c.tls.Server(env)     at Open: reads the files; nil, nil without ssl = true
//
// ClientKeys and Client.Client are the same for those who connect. As Flume's
// clients do, they check who signed the server's certificate and not its name,
// unless verify-hostname = true.
//
// A key store may be JKS or PKCS12, as Java's keytool makes them, or PEM. What
// a file is, is told by its first bytes, so a wrong keystore-type does no harm
// (Java 9 and later does the same). JCEKS and BKS are refused by name.
//
// # Protocols and cipher suites
//
// The rule is Flume's: what the platform has switched on, cut down to the
// include list if there is one, less the exclude list. Switched on are TLS 1.2
// and 1.3, as on a current JVM; older ones can not be had. Cipher suites have
// the names of Java, which are those of IANA, or begin with SSL_ where the
// suite is older than TLS.
//
// Go offers the suites of TLS 1.3 as a whole. A list that takes away some of
// them is honoured strictly: TLS 1.3 is then not offered, and a warning says so.
//
// # Renewal
//
// The certificate is read again when its files have changed: a handshake looks
// at them at most every ten seconds. A file that can not be read (half
// written, key and certificate not yet a pair) leaves the old certificate in
// use and is logged. The trust store is read at Open only.
package tlsconf
