package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/millrace/millrace/core/vfs"
)

// maxStore is more than any real store has; a wrong path may be a log.
const maxStore = 4 << 20

// The forms of a store.
const (
	formPEM = iota
	formJKS
	formPKCS12
)

func read(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStore+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxStore {
		return nil, fmt.Errorf("%s: larger than %d bytes: not a key store", path, maxStore)
	}
	return data, nil
}

// form tells what data is by its first bytes.
func form(data []byte) (int, error) {
	switch {
	case bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return formJKS, nil
	case bytes.HasPrefix(data, []byte{0xce, 0xce, 0xce, 0xce}):
		return 0, errors.New("a JCEKS store: convert it with keytool -importkeystore -deststoretype PKCS12")
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return formPEM, nil
	case bytes.HasPrefix(data, []byte{0x30}):
		return formPKCS12, nil
	}
	return 0, errors.New("neither PEM nor JKS nor PKCS12")
}

// load returns all certificates of s that have a private key.
func (s store) load(fsys vfs.FS) ([]tls.Certificate, error) {
	data, err := read(fsys, s.path)
	if err != nil {
		return nil, err
	}
	certs, err := s.decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return certs, nil
}

func (s store) decode(data []byte) ([]tls.Certificate, error) {
	f, err := form(data)
	if err != nil {
		return nil, err
	}
	switch f {
	case formPEM:
		cert, err := pair(data, data)
		return []tls.Certificate{cert}, err
	case formJKS:
		return s.jks(data)
	}
	key, leaf, chain, err := pkcs12.DecodeChain(data, s.password)
	if err != nil {
		return nil, err
	}
	cert, err := assemble(key, append([]*x509.Certificate{leaf}, chain...))
	return []tls.Certificate{cert}, err
}

// pair is a certificate and its key in PEM. What is wrong with the usual
// mistakes is said better than the library does.
func pair(cert, key []byte) (tls.Certificate, error) {
	for rest := key; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
			return tls.Certificate{}, errors.New("the private key is encrypted: decrypt it with openssl pkey, or use a PKCS12 store")
		}
	}
	return tls.X509KeyPair(cert, key)
}

func (s store) jks(data []byte) ([]tls.Certificate, error) {
	if s.password == "" {
		return nil, errors.New("a JKS store needs its password")
	}
	ks, err := s.openJKS(data)
	if err != nil {
		return nil, err
	}
	var certs []tls.Certificate
	for _, alias := range ks.Aliases() {
		if !ks.IsPrivateKeyEntry(alias) {
			continue
		}
		e, err := ks.GetPrivateKeyEntry(alias, []byte(s.password))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w (its password must be that of the store)", alias, err)
		}
		key, err := x509.ParsePKCS8PrivateKey(e.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", alias, err)
		}
		chain := make([]*x509.Certificate, len(e.CertificateChain))
		for i, c := range e.CertificateChain {
			if chain[i], err = x509.ParseCertificate(c.Content); err != nil {
				return nil, fmt.Errorf("key %s: certificate: %w", alias, err)
			}
		}
		cert, err := assemble(key, chain)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", alias, err)
		}
		certs = append(certs, cert)
	}
	if certs == nil {
		return nil, errors.New("no private key in it")
	}
	return certs, nil
}

// signedBlank replaces the digest at the end of a JKS store by that for an empty
// password. Certificates in it are not encrypted, and Java does not look at the
// digest when it has no password.
func signedBlank(data []byte) []byte {
	body := data[:max(0, len(data)-sha1.Size)]
	sum := sha1.Sum(append([]byte("Mighty Aphrodite"), body...)) // as in sun.security.provider.JavaKeyStore
	return append(body[:len(body):len(body)], sum[:]...)
}

func (s store) openJKS(data []byte) (keystore.KeyStore, error) {
	ks := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
	if err := ks.Load(bytes.NewReader(data), []byte(s.password)); err != nil {
		return ks, fmt.Errorf("%w (wrong password?)", err)
	}
	return ks, nil
}

// assemble puts the key's own certificate first and behind it those that
// signed one another. Stores also hold certificates of others, in any order.
func assemble(key any, certs []*x509.Certificate) (tls.Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return tls.Certificate{}, fmt.Errorf("a %T can not sign", key)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return tls.Certificate{}, fmt.Errorf("a key of type %T is not known", key)
	}
	out := tls.Certificate{PrivateKey: key}
	for _, c := range certs {
		if public.Equal(c.PublicKey) {
			out.Leaf = c
			break
		}
	}
	if out.Leaf == nil {
		return tls.Certificate{}, errors.New("no certificate fits the private key")
	}
	for c := out.Leaf; c != nil; {
		out.Certificate = append(out.Certificate, c.Raw)
		var issuer *x509.Certificate
		for _, i := range certs {
			if len(out.Certificate) < len(certs) && !bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(i) == nil {
				issuer = i
				break
			}
		}
		c = issuer
	}
	return out, nil
}

// pool returns the certificates that s trusts.
func (s store) pool(fsys vfs.FS) (*x509.CertPool, error) {
	data, err := read(fsys, s.path)
	if err != nil {
		return nil, err
	}
	certs, err := s.trusted(data)
	if err == nil && len(certs) == 0 {
		err = errors.New("no trusted certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func (s store) trusted(data []byte) ([]*x509.Certificate, error) {
	f, err := form(data)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	switch f {
	case formPEM:
		for {
			var b *pem.Block
			if b, data = pem.Decode(data); b == nil {
				return certs, nil
			}
			if b.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, err
			}
			certs = append(certs, c)
		}
	case formJKS:
		if s.password == "" {
			data = signedBlank(data)
		}
		ks, err := s.openJKS(data)
		if err != nil {
			return nil, err
		}
		for _, alias := range ks.Aliases() {
			if !ks.IsTrustedCertificateEntry(alias) {
				continue
			}
			e, err := ks.GetTrustedCertificateEntry(alias)
			if err != nil {
				return nil, err
			}
			c, err := x509.ParseCertificate(e.Certificate.Content)
			if err != nil {
				return nil, fmt.Errorf("certificate %s: %w", alias, err)
			}
			certs = append(certs, c)
		}
		return certs, nil
	}
	certs, err = pkcs12.DecodeTrustStore(data, s.password)
	if err == nil {
		return certs, nil
	}
	// A store that also has a key: what came with the key is trusted, as in Java.
	if _, leaf, chain, chainErr := pkcs12.DecodeChain(data, s.password); chainErr == nil {
		return append(chain, leaf), nil
	}
	return nil, err
}
