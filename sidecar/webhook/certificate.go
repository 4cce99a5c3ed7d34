package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
)

// Lifetime is how long a self-made certificate holds; at two thirds of it there is a new one.
const Lifetime = 30 * 24 * time.Hour

// Certificate is the one that a server shows now.
type Certificate struct {
	next func(until time.Time) (*tls.Certificate, error) // after one that is valid until then; nil without error: that one stays

	mu      sync.Mutex
	now     *tls.Certificate
	trusted *tls.Certificate // to be shown next
}

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, nil
}

// Expires is when the certificate ends to be valid.
func (c *Certificate) Expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Leaf.NotAfter
}

// PEM is the certificate itself, without its key.
func (c *Certificate) PEM() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return inPEM(c.now)
}

// Renew looks whether there is, or has to be, another certificate, and tells
// whether it is shown from now on. Where trust is given, it is called with a new one,
// and only the next Renew shows it: API servers need a moment to learn whom to
// trust. If trust fails, nothing has happened.
func (c *Certificate) Renew(trust func(pem []byte) error) (renewed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trusted != nil {
		c.now, c.trusted = c.trusted, nil
		return true, nil
	}
	next, err := c.next(c.now.Leaf.NotAfter)
	if err != nil || next == nil {
		return false, err
	}
	if trust == nil {
		c.now = next
		return true, nil
	}
	if err := trust(inPEM(next)); err != nil {
		return false, err
	}
	c.trusted = next
	return false, nil
}

func inPEM(c *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// SelfMade is a certificate of our own for the names of hosts, which signs itself.
// Its key is in memory only.
func SelfMade(hosts []string, now func() time.Time) (*Certificate, error) {
	first, err := newCertificate(hosts, now())
	if err != nil {
		return nil, err
	}
	return &Certificate{now: first, next: func(until time.Time) (*tls.Certificate, error) {
		if now().Before(until.Add(-Lifetime / 3)) {
			return nil, nil
		}
		return newCertificate(hosts, now())
	}}, nil
}

func newCertificate(hosts []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "millrace webhook"},
		// Clocks differ: it holds from an hour ago.
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(Lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// FromFiles is a certificate, with its chain, and a key that somebody else keeps in files and may replace.
func FromFiles(certFile, keyFile string) (*Certificate, error) {
	var seen []byte
	load := func(time.Time) (*tls.Certificate, error) {
		cert, err := os.ReadFile(certFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		key, err := os.ReadFile(keyFile)
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		both := append(append([]byte{}, cert...), key...)
		if bytes.Equal(both, seen) {
			return nil, nil
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s with key %s: %w", certFile, keyFile, err)
		}
		seen = both
		return &pair, nil
	}
	first, err := load(time.Time{})
	if err != nil {
		return nil, err
	}
	return &Certificate{now: first, next: load}, nil
}
