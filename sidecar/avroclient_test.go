package sidecar

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/avro"
	"github.com/millrace/millrace/core/sourcetest"
)

// avroSource runs an avro source.
func avroSource(t *testing.T) (in *sourcetest.Instance, host, port string) {
	t.Helper()
	keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
	in = sourcetest.Start(t, sourcetest.Subject{New: avro.Source.New}, keys, sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	host, port, err := net.SplitHostPort(in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return in, host, port
}

func runClient(t *testing.T, stdin string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(Program{
		Args: append([]string{"millrace", "avro-client"}, args...), Env: func(string) (string, bool) { return "", false },
		Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e,
	})
	return o.String(), e.String(), code
}

func TestAvroClient(t *testing.T) {
	in, host, port := avroSource(t)
	headers := write(t, "headers", "app = shop\nplace=caf\\u00e9\n")
	out, errs, code := runClient(t, "one\ntwo\r\n\rfour\nfive\nsix", "-H", host, "-p", port, "-R", headers)
	if code != exitOK || errs != "" || !strings.HasPrefix(out, "6 events delivered, 17 bytes, in ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if got, want := in.Out.Bodies(), []string{"one", "two", "", "four", "five", "six"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if n := in.Out.Biggest(); n != 5 {
		t.Errorf("%d lines in a request, want 5", n)
	}
	h := in.Out.Events()[5].Headers
	if h.Len() != 2 || h.Value("app") != "shop" || h.Value("place") != "café" {
		t.Errorf("headers %v", h)
	}

	file := write(t, "file", "a\nb\nc\n")
	props := write(t, "props", "hosts = h1 h2\nhosts.h1 = 127.0.0.1:1\nhosts.h2 = "+host+":"+port+"\nclient.type = default_failover\nbatch-size=2\nx=y\n")
	out, errs, code = runClient(t, "", "--rpcProps", props, "--filename="+file)
	if code != exitOK || !strings.HasPrefix(out, "3 events delivered") || !strings.Contains(errs, "warning: "+props+": ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if n := in.Out.Len(); n != 9 {
		t.Errorf("%d events", n)
	}
}

func TestAvroClientFolder(t *testing.T) {
	in, host, port := avroSource(t)
	dir := t.TempDir()
	for _, name := range []string{"a.log", "b.log", ".hidden", "old.COMPLETED"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in.Out.FullEach(1)
	out, errs, code := runClient(t, "", "-H", host, "-p", port, "--dirname", dir)
	if code != exitFailed || !strings.HasPrefix(out, "0 events delivered") || !strings.Contains(errs, "a.log: send to ") || !strings.Contains(errs, "FAILED") {
		t.Errorf("a full channel: %d %q %q", code, out, errs)
	}
	in.Out.FullEach(0)
	if out, errs, code := runClient(t, "", "-H", host, "-p", port, "--dirname", dir); code != exitOK || errs != "" || !strings.HasPrefix(out, "2 events") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if got := in.Out.Bodies(); !slices.Equal(got, []string{"a.log", "b.log"}) {
		t.Errorf("events %q", got)
	}
	for _, name := range []string{"a.log.COMPLETED", "b.log.COMPLETED", ".hidden", "old.COMPLETED"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestAvroClientErrors(t *testing.T) {
	good := write(t, "good", "x\n")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "either --rpcProps or both"},
		{"-H x", exitUsage, "--port is missing"},
		{"-p 1", exitUsage, "--host is missing"},
		{"-H x -p y", exitUsage, `"y" is not a port`},
		{"-H x -p 1 -F a --dirname b", exitUsage, "exclude each other"},
		{"-H x -p 1 --batch-size 0", exitUsage, "is not a whole number"},
		{"-H x -p 1 more", exitUsage, "is not an option"},
		{"-P /nowhere", exitFailed, "/nowhere"},
		{"-P " + good, exitFailed, "hosts: is required"},
		{"-H x -p 1 -R /nowhere", exitFailed, "/nowhere"},
		{"-H 127.0.0.1 -p 1 -F " + good, exitFailed, "connection refused"},
		{"-H 127.0.0.1 -p 1 -F /nowhere", exitFailed, "/nowhere"},
		{"--help", exitOK, "--headerFile"},
	} {
		out, errs, code := runClient(t, "line\n", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: %d %q %q, want %d %s", c.args, code, out, errs, c.code, c.says)
		}
	}
}
