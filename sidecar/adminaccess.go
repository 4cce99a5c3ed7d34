package sidecar

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// admit returns 0 for a caller who may see everything, else the code to refuse with.
func (s *adminServer) admit(r *http.Request) int {
	// The name in the request is looked at as well: a web page in a browser on
	// this machine must not read us under a name of its own.
	if fromLoopback(r.RemoteAddr) && namesLoopback(r.Host) {
		return 0
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return 0
	}
	if s.token == "" {
		return http.StatusForbidden
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
		return http.StatusUnauthorized
	}
	return 0
}

func fromLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}

// adminTLS says how the admin server, or who asks it, uses TLS.
type adminTLS struct {
	cert, key string // of this end
	clientCA  string // who signs clients: theirs is as good as a token
}

func (t *adminTLS) flags(f *flags) {
	f.String(&t.cert, "admin-tls-cert", "", "FILE", "PEM certificate, with its chain: the admin server then speaks TLS. It is read anew for each connection")
	f.String(&t.key, "admin-tls-key", "", "FILE", "and its private key")
	f.String(&t.clientCA, "admin-client-ca", "", "FILE", "PEM certificates of who signs clients of the admin server; a client with such a certificate needs no token")
}

// server returns what the admin server listens with; nil: without TLS.
func (t *adminTLS) server() (*tls.Config, error) {
	switch {
	case t.cert == "" && t.key == "" && t.clientCA == "":
		return nil, nil
	case t.cert == "" || t.key == "":
		return nil, errors.New("--admin-tls-cert and --admin-tls-key go together, and --admin-client-ca needs both")
	}
	if _, err := t.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return t.load() // a certificate is renewed more often than an agent is started
	}}, nil
}

func (t *adminTLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	if t.clientCA != "" {
		// A probe has no certificate: whoever needs one is told so by admit.
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if c.ClientCAs, err = pool(t.clientCA); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func pool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", file)
	}
	return p, nil
}
