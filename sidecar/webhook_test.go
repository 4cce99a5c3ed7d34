package sidecar

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/millrace/millrace/core/suite"
)

// account is a service account of an API server that keeps one webhook's caBundle.
func account(t *testing.T) (dir string, env map[string]string, bundle func() []byte) {
	t.Helper()
	var mu sync.Mutex
	var ca []byte
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPatch {
			var ops []struct {
				Path  string
				Value json.RawMessage
			}
			if err := json.NewDecoder(r.Body).Decode(&ops); err != nil || json.Unmarshal(ops[1].Value, &ca) != nil {
				http.Error(w, "no patch", http.StatusBadRequest)
				return
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"metadata": map[string]any{"resourceVersion": "1"}, "webhooks": []any{map[string]any{"clientConfig": map[string]any{"caBundle": ca}}},
		})
	}))
	t.Cleanup(api.Close)
	dir = t.TempDir()
	for name, text := range map[string]string{
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})), "token": "t", "namespace": "tools",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, err := net.SplitHostPort(api.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return dir, map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return ca
	}
}

// A webhook in a pod makes its certificate, has it trusted, is ready, answers
// reviews and tells of them, and ends after its grace.
func TestWebhookCommand(t *testing.T) {
	dir, env, bundle := account(t)
	signals, said, code := make(chan os.Signal, 2), &buffer{}, make(chan int, 1)
	go func() {
		code <- Run(Program{
			Args: strings.Fields("millrace webhook --listen 127.0.0.1:0 --status 127.0.0.1:0 --configmap conf --grace 1h --service-account " + dir),
			Env:  lookup(env), Stdout: io.Discard, Stderr: said, Signals: signals,
		})
	}()
	var addresses []string
	suite.Eventually(t, "its addresses", func() bool {
		addresses = regexp.MustCompile(`listen=(\S+) status=(\S+)`).FindStringSubmatch(said.String())
		return addresses != nil
	})
	status := func(path string) (int, string) {
		r, err := http.Get("http://" + addresses[2] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	suite.Eventually(t, "ready", func() bool { code, _ := status("/readyz"); return code == 200 })
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle()) {
		t.Fatalf("the bundle is %q", bundle())
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "millrace-webhook.tools.svc"}}}
	defer client.CloseIdleConnections()
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"kind":"Pod"},"object":` +
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","annotations":{"millrace/inject":"true"}},"spec":{"containers":[{"name":"app"}]}}}}`
	r, err := client.Post("https://"+addresses[1]+"/mutate", "application/json", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || !strings.Contains(string(text), `"patchType":"JSONPatch"`) {
		t.Errorf("%v %s", err, text)
	}
	_, metrics := status("/metrics")
	if !strings.Contains(metrics, `millrace_webhook_reviews_total{reason="",result="injected"} 1`) {
		t.Error(metrics)
	}
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	if code, _ := status("/elsewhere"); code != 404 {
		t.Error(code)
	}
	signals <- syscall.SIGTERM
	suite.Eventually(t, "not ready", func() bool { code, _ := status("/readyz"); return code == 503 })
	if code, _ := status("/healthz"); code != 200 {
		t.Error("it does not live through its grace:", code)
	}
	signals <- syscall.SIGTERM
	if c := <-code; c != exitOK {
		t.Error(c, said)
	}
}

// What is wrong with a webhook's command line or surroundings is said, with the way out.
func TestWebhookCommandRefuses(t *testing.T) {
	dir, _, _ := account(t)
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"--tls-cert x", "go together", exitUsage},
		{"--look-interval 0s", "more than 0", exitUsage},
		{"--state host", "is not emptyDir", exitUsage},
		{"extra", "is not an option", exitUsage},
		{"--service-account /nowhere", "give --host", exitFailed},
		{"--service-account " + dir, "--configuration off", exitFailed},
		{"--configuration off --host x --listen 256.0.0.1:1", "listen for reviews", exitFailed},
		{"--configuration off --host x --listen 127.0.0.1:0 --status 256.0.0.1:1", "listen for status", exitFailed},
		{"--tls-cert /nowhere/c --tls-key /nowhere/k", "/nowhere/c", exitFailed},
	} {
		if code, out, said := call(t, nil, append([]string{"webhook"}, strings.Fields(c.args)...)...); code != c.code || out != "" || !strings.Contains(said, c.says) {
			t.Errorf("%s: %d %s", c.args, code, said)
		}
	}
}
