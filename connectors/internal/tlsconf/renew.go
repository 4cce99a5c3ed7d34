package tlsconf

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// lookEvery is how often handshakes look whether a file has changed.
const lookEvery = 10 * time.Second

// renewal holds the certificates of a server and reads them again when their files change.
type renewal struct {
	c   *Config
	env core.Env

	mu     sync.Mutex
	certs  []tls.Certificate
	looked time.Time
	seen   [2]stamp
}

// stamp tells whether a file is still the one that was read.
type stamp struct {
	size int64
	when time.Time
}

func (r *renewal) start() error {
	r.looked, r.seen = r.env.Now(), r.stamps()
	certs, err := r.load()
	r.certs = certs
	return err
}

func (r *renewal) load() ([]tls.Certificate, error) {
	c := r.c
	if c.certificate == "" {
		certs, err := c.keys.load(r.env.FS)
		if err != nil {
			return nil, fmt.Errorf("read keystore: %w", err)
		}
		return certs, nil
	}
	cert, err := read(r.env.FS, c.certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key := cert
	if c.privateKey != "" {
		if key, err = read(r.env.FS, c.privateKey); err != nil {
			return nil, fmt.Errorf("read private-key: %w", err)
		}
	}
	one, err := pair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %s: %w", c.certificate, err)
	}
	return []tls.Certificate{one}, nil
}

func (r *renewal) stamps() (all [2]stamp) {
	paths := [2]string{r.c.certificate, r.c.privateKey}
	if paths[0] == "" {
		paths = [2]string{r.c.keys.path}
	}
	for i, path := range paths {
		if path == "" {
			continue
		}
		if info, err := r.env.FS.Stat(path); err == nil {
			all[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return all
}

// certificate is the GetCertificate of the server's configuration.
func (r *renewal) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := r.now()
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	return &certs[0], nil
}

// now returns the certificates, which are never changed in place.
func (r *renewal) now() []tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.env.Now()
	if now.Sub(r.looked) < lookEvery {
		return r.certs
	}
	r.looked = now
	seen := r.stamps()
	if seen == r.seen {
		return r.certs
	}
	r.seen = seen
	certs, err := r.load()
	if err != nil {
		r.env.Log.Warn("the changed certificate can not be used; the old one stays in use", "error", err)
		return r.certs
	}
	r.certs = certs
	r.env.Log.Info("certificate read again", "expires", certs[0].Leaf.NotAfter)
	return certs
}
