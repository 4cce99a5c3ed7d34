//go:build k8s

// Package k8s tries the sidecar in real Kubernetes: run.sh says with what.
//
//	TestAPI...      etcd and kube-apiserver: what they take, and what they make of it
//	TestCluster...  a node besides: pods that live and die
package k8s

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long anything may take on a loaded machine. Nothing here measures.
const patience = 2 * time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok, and fails the test when that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(patience); !ok(); <-every.C {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// run runs a program to its end.
func run(in, program string, args ...string) (out, said string, err error) {
	c := exec.Command(program, args...)
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &stdout, &stderr
	err = c.Run()
	return stdout.String(), stderr.String(), err
}

// kubectl fails the test if it fails.
func kubectl(t *testing.T, in string, args ...string) string {
	t.Helper()
	out, said, err := run(in, "kubectl", args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return out
}

func millrace(t *testing.T, in string, args ...string) string {
	t.Helper()
	out, said, err := run(in, binary(), args...)
	if err != nil {
		t.Fatalf("millrace %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return out
}

func binary() string { return os.Getenv("MILLRACE_BIN") }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// objects are those of kubectl's answer, which is one, several one after the other, or a List.
func objects(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var o map[string]any
		err := d.Decode(&o)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if items, ok := o["items"].([]any); ok {
			for _, item := range items {
				all = append(all, item.(map[string]any))
			}
			continue
		}
		all = append(all, o)
	}
}

// at follows keys into an object; nil where there is nothing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// template is the pod template of a workload, or a pod itself.
func template(o map[string]any) map[string]any {
	for _, way := range [][]string{{"spec", "jobTemplate", "spec", "template"}, {"spec", "template"}, {"template"}} {
		if t, ok := at(o, way...).(map[string]any); ok {
			return t
		}
	}
	return o
}

// sidecar is the container millrace of a pod template, and the list that it is in.
func sidecar(pod map[string]any) (container map[string]any, list string) {
	for _, list := range []string{"initContainers", "containers"} {
		all, _ := at(pod, "spec", list).([]any)
		for _, c := range all {
			if at(c, "name") == "millrace" {
				return c.(map[string]any), list
			}
		}
	}
	return nil, ""
}

func get(url string) (body string, code int) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return "", 0
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return "", 0
	}
	return string(text), r.StatusCode
}
