package sidecar

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// adminClient asks the admin server of an agent, for the commands that do. In
// the agent's own container its options have their values from the agent's environment.
type adminClient struct {
	addr, token string
	serverCert  string // or who signs it; not empty: it speaks TLS
	cert, key   string // our own, where it asks for one
}

func (c *adminClient) flags(f *flags) {
	c.addr = defaultAdmin
	f.String(&c.addr, "admin", "", "ADDR", "where the agent's admin server listens (default "+defaultAdmin+")")
	f.String(&c.token, "admin-token", "", "TOKEN", "the agent's bearer token, where it is on another machine; better given in the environment")
	f.String(&c.serverCert, "admin-tls-cert", "", "FILE", "PEM certificate of the agent's admin server, or of who signs it, where that speaks TLS")
	f.String(&c.cert, "client-cert", "", "FILE", "our own PEM certificate, where the agent takes one instead of a token")
	f.String(&c.key, "client-key", "", "FILE", "and its private key")
}

// do sends a request and returns the body of an answer that says all is well.
func (c *adminClient) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	answer, err := c.send(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode/100 != 2 {
		defer func() { _ = answer.Body.Close() }()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // for the message only
		path, _, _ = strings.Cut(path, "?")
		return nil, fmt.Errorf("%s: %s", path, cmp.Or(strings.TrimSpace(string(text)), answer.Status))
	}
	return answer.Body, nil
}

func (c *adminClient) send(ctx context.Context, method, path string) (*http.Response, error) {
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, fmt.Errorf("there is no admin server to ask: %q is not an address", c.addr)
	}
	switch host { // an agent that listens everywhere listens here
	case "", "0.0.0.0", "::":
		host = "127.0.0.1"
	}
	scheme := "http"
	t := &http.Transport{DisableKeepAlives: true} // no proxy: it is next door
	if c.serverCert != "" {
		scheme = "https"
		if t.TLSClientConfig, err = c.secure(); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, scheme+"://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return (&http.Client{Transport: t}).Do(r)
}

// secure trusts the certificate that was given, and what it signed, under whatever
// name: the agent is asked by its address.
func (c *adminClient) secure() (*tls.Config, error) {
	roots, err := pool(c.serverCert)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // VerifyConnection does, but for the name
	t.VerifyConnection = func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		if len(s.PeerCertificates) == 0 {
			return errors.New("the admin server shows no certificate")
		}
		for _, one := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(one)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
	if c.cert != "" || c.key != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
