package sidecar

import (
	"os"
	"strings"
	"testing"
)

const pod = `apiVersion: v1
kind: Pod
metadata:
  name: web # a comment
spec:
  containers:
  - name: app
    image: app:1
`

// The command reads a file or standard input, writes where it is told, and says what is wrong with which exit code.
func TestInjectCommand(t *testing.T) {
	good, bad := write(t, "flume.conf", small), write(t, "bad.conf", small+"a1.sinks.k1.channel = c9\n")
	manifest := write(t, "pod.yaml", pod)
	if code, out, said := call(t, nil, "inject", "-f", manifest, "--config", good, "-o", manifest); code != exitOK || out != "" || said != "" {
		t.Fatal(code, out, said)
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: ConfigMap", "restartPolicy: Always", "name: web # a comment", "a1.sources.r1.interceptors = k8s1 k8s2 k8s3"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if code, out, said := call(t, map[string]string{"MILLRACE_FILENAME": manifest}, "inject", "--uninject"); code != exitOK || out != pod {
		t.Error(code, out, said)
	}
	var out, errs strings.Builder
	p := Program{Args: []string{"millrace", "inject", "--configmap", "c"}, Env: lookup(nil), Stdin: strings.NewReader(pod), Stdout: &out, Stderr: &errs}
	if code := Run(p); code != exitOK || !strings.Contains(out.String(), "name: c\n") {
		t.Error(code, out.String(), errs.String())
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"-f " + manifest + " --config " + bad, exitConfig, bad + ":11: error: a1.sinks.k1.channel: there is no channel"},
		{"-f " + good + " --config " + good, exitConfig, good + ": error: there is no workload"},
		{"-f /nowhere/x.yaml --configmap c", exitFailed, "/nowhere/x.yaml"},
		{"-f " + manifest + " --configmap c -o /nowhere/x.yaml", exitFailed, "/nowhere/x.yaml"},
		{"-f " + manifest + " --configmap c --config " + good, exitUsage, "exclude each other"},
		{"-f " + manifest + " --state host", exitUsage, "is not emptyDir"},
		{manifest, exitUsage, "is not an option"},
	} {
		if code, out, said := call(t, nil, append([]string{"inject"}, strings.Fields(c.args)...)...); code != c.code || out != "" || !strings.Contains(said, c.says) {
			t.Errorf("%s: %d %s%s", c.args, code, out, said)
		}
	}
}

// sleep ends after its time, and takes nothing else.
func TestSleep(t *testing.T) {
	if code, _, said := call(t, nil, "sleep", "1ms"); code != exitOK {
		t.Error(code, said)
	}
	for _, args := range [][]string{{"sleep"}, {"sleep", "5"}, {"sleep", "-1s"}, {"sleep", "1s", "1s"}} {
		if code, _, said := call(t, nil, args...); code != exitUsage || !strings.Contains(said, "10s") {
			t.Error(args, code, said)
		}
	}
}
