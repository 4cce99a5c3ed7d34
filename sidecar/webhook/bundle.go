package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// maxBundle bounds the certificates of a bundle: one for each replica, and those of replicas that are no more.
const maxBundle = 32

// Bundle is the caBundle of a MutatingWebhookConfiguration. Every replica adds its
// own certificate to it, and takes out those that are over, so that several may
// serve beside each other without sharing a key.
type Bundle struct {
	Cluster *Cluster
	Name    string // of the configuration
	Now     func() time.Time
}

const configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"

// configuration is a MutatingWebhookConfiguration as far as it matters here.
type configuration struct {
	Metadata struct{ ResourceVersion string }
	Webhooks []struct {
		Name         string
		ClientConfig struct{ CABundle []byte }
	}
}

// Trust sees to it that the bundle has a certificate, and tells whether it had to be added.
func (b *Bundle) Trust(ctx context.Context, cert []byte) (added bool, err error) {
	const tries = 8 // replicas that start together get into each other's way
	path := configurations + url.PathEscape(b.Name)
	for range tries {
		var c configuration
		if err = b.Cluster.call(ctx, "GET", path, "", nil, &c); err != nil {
			return false, fmt.Errorf("read webhook configuration %s: %w", b.Name, err)
		}
		patch, err := b.patch(c, cert)
		if err != nil || patch == nil {
			return false, err
		}
		err = b.Cluster.call(ctx, "PATCH", path, "application/json-patch+json", patch, nil)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errConflict) {
			return false, fmt.Errorf("change webhook configuration %s: %w", b.Name, err)
		}
	}
	return false, fmt.Errorf("change webhook configuration %s: %w", b.Name, errConflict)
}

// patch is the change that c needs, nil if none.
func (b *Bundle) patch(c configuration, cert []byte) ([]byte, error) {
	if len(c.Webhooks) == 0 {
		return nil, fmt.Errorf("webhook configuration %s has no webhooks", b.Name)
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	// With the version, the API server refuses the change if somebody else made one.
	ops := []operation{{"replace", "/metadata/resourceVersion", c.Metadata.ResourceVersion}}
	for i, w := range c.Webhooks {
		if now := withCertificate(w.ClientConfig.CABundle, cert, b.Now()); now != nil {
			ops = append(ops, operation{"add", "/webhooks/" + strconv.Itoa(i) + "/clientConfig/caBundle", now})
		}
	}
	if len(ops) == 1 {
		return nil, nil
	}
	return json.Marshal(ops)
}

// withCertificate is a bundle with a certificate at its end; nil if it has it.
// What is no certificate, what is over, and of too many the oldest, is left out.
func withCertificate(bundle, cert []byte, now time.Time) []byte {
	mine, _ := pem.Decode(cert)
	var kept [][]byte
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if bytes.Equal(block.Bytes, mine.Bytes) {
			return nil
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(c.NotAfter) {
			kept = append(kept, pem.EncodeToMemory(block))
		}
	}
	if n := len(kept) - maxBundle + 1; n > 0 {
		kept = kept[n:]
	}
	return append(bytes.Join(kept, nil), cert...)
}
