package kerberos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for principal, want := range map[string]string{
		"flume@A.TEST":       "flume A.TEST",
		"flume/h":            "flume/h B.TEST",
		"flume/_HOST@A.TEST": "flume/" + strings.ToLower(host) + " A.TEST",
	} {
		name, realm, err := (&Login{Principal: principal}).name("B.TEST")
		if got := name + " " + realm; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", principal, got, err, want)
		}
	}
}

// What stops a login is told with the file's name. A directive that the library does not know stops nothing.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	if err := os.WriteFile(conf, []byte("includedir /etc/krb5.conf.d/\n[libdefaults]\n default_realm = A.TEST\n v4_instance_resolve = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, l := range map[string]Login{
		"read /absent.conf":          {Principal: "a", Keytab: "/k", Conf: "/absent.conf"},
		"read keytab /absent.keytab": {Principal: "a", Keytab: "/absent.keytab", Conf: conf},
		"read ticket cache /absent":  {Cache: "/absent", Conf: conf},
	} {
		if _, err := l.Client(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDefaultCache(t *testing.T) {
	for name, want := range map[string]string{"FILE:/tmp/x": "/tmp/x", "/tmp/y": "/tmp/y", "KEYRING:z": "/tmp/krb5cc_", "": "/tmp/krb5cc_"} {
		t.Setenv("KRB5CCNAME", name)
		if got := DefaultCache(); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s", name, got)
		}
	}
}
