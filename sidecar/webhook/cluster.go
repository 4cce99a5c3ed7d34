package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// AccountDir is where a pod finds the token of its service account, the cluster's CA and its namespace.
const AccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// maxAnswer bounds what is read of an answer of the API server.
const maxAnswer = 4 << 20

// Cluster is the API server, as a pod reaches it.
type Cluster struct {
	base   string
	dir    string
	client *http.Client
}

// InCluster reads where the API server is from the environment that every pod has, and its CA from dir.
func InCluster(env func(string) (string, bool), dir string) (*Cluster, error) {
	host, _ := env("KUBERNETES_SERVICE_HOST")
	port, _ := env("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read the cluster's CA: %s has no certificate", filepath.Join(dir, "ca.crt"))
	}
	return &Cluster{
		base: "https://" + net.JoinHostPort(host, port), dir: dir,
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 1,
		}},
	}, nil
}

// Namespace is that of the pod; empty where dir does not say.
func Namespace(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// errConflict says that somebody else was faster.
var errConflict = errors.New("it was changed meanwhile")

// call does one request and reads the answer into out; out nil reads nothing.
func (c *Cluster) call(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(c.dir, "token")) // each time: it is replaced every hour
	if err != nil {
		return fmt.Errorf("read the service account's token: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Accept", "application/json")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("%s %s: the answer is too large", method, path)
	case answer.StatusCode == http.StatusConflict:
		return errConflict
	case answer.StatusCode != http.StatusOK:
		var s struct{ Message string }
		_ = json.Unmarshal(text, &s) // what is no Status is told by its code
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, s.Message)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
