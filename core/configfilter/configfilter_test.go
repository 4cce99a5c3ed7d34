package configfilter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/configfilter"
)

func filter(t *testing.T, typ core.Type[conf.Filter], kv ...string) conf.Filter {
	t.Helper()
	props := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	f := typ.New()
	if _, faults := conf.Bind(f, props); faults.HasErrors() {
		t.Fatal(faults.Err())
	}
	return f
}

// want checks a value: "" none, "!text" an error that has the text.
func want(t *testing.T, f conf.Filter, key, want string) {
	t.Helper()
	value, ok, err := f.Value(key, func(name string) (string, bool) {
		if name != "HOME" {
			return "", false
		}
		return "/h", true
	})
	if text, bad := strings.CutPrefix(want, "!"); bad {
		if err == nil || !strings.Contains(err.Error(), text) || ok {
			t.Errorf("%s gives %q, %v, error %v; want an error with %q", key, value, ok, err, text)
		}
		return
	}
	if err != nil || value != want || ok != (want != "") {
		t.Errorf("%s gives %q, %v, error %v; want %q", key, value, ok, err, want)
	}
}

// flume: TestEnvironmentVariableConfigFilter filter filterUnknownKey
func TestEnv(t *testing.T) {
	f := filter(t, configfilter.Env)
	want(t, f, "HOME", "/h")
	want(t, f, "NOSUCH", "")
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain": "open sesame", "newline": "a\nb\r\n", "large": strings.Repeat("x", 64<<10+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := filter(t, configfilter.File, "dir", dir)
	want(t, f, "plain", "open sesame")
	want(t, f, "newline", "a\nb")
	want(t, f, "nosuch", "")
	want(t, f, "large", "!larger than 65536 bytes")
	want(t, f, "directory", "!is a directory")
}

// flume: TestExternalProcessConfigFilter filterOk filterError
func TestExternal(t *testing.T) {
	script := filepath.Join(t.TempDir(), "ask")
	if err := os.WriteFile(script, []byte(`#!/bin/sh
case $2 in
one) echo "$1 $2"; echo more;;
none) ;;
fails) echo no; exit 3;;
hangs) exec sleep 1000;;
much) exec cat /dev/zero;;
esac
`), 0o700); err != nil {
		t.Fatal(err)
	}
	f := filter(t, configfilter.External, "command", script+" first")
	want(t, f, "one", "first one")
	want(t, f, "none", "")
	want(t, f, "fails", "!exit status 3")
	want(t, f, "much", "!printed more than 65536 bytes")
	want(t, filter(t, configfilter.External, "command", script+" x", "timeout", "50"), "hangs", "!took longer than 50ms")
	want(t, filter(t, configfilter.External, "command", "/no/such/program"), "one", "!no such file")
}
