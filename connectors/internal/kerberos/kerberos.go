// Package kerberos logs in to Kerberos, for the connectors to Hadoop and Kafka.
package kerberos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/millrace/millrace/core/vfs"
)

// DefaultConf is where Kerberos's configuration is on most machines.
const DefaultConf = "/etc/krb5.conf"

// Login is who somebody is for Kerberos, and how it is proven: by a key table, or
// by a cache in which another program keeps tickets.
type Login struct {
	Principal string // name@REALM or name/_HOST@REALM; without a realm it is of the configuration's default
	Keytab    string
	Cache     string // where there is no key table
	Conf      string // krb5.conf
}

// Client takes a ticket. With a key table the client renews it by itself; the caller destroys it.
func (l *Login) Client() (*client.Client, error) {
	cfg, err := config.Load(l.Conf)
	var unknown config.UnsupportedDirective
	if err != nil && !errors.As(err, &unknown) { // such as includedir: what is known has been read
		return nil, fmt.Errorf("read %s: %w", l.Conf, err)
	}
	if l.Keytab == "" {
		return l.cached(cfg)
	}
	kt, err := keytab.Load(l.Keytab)
	if err != nil {
		return nil, fmt.Errorf("read keytab %s: %w", l.Keytab, err)
	}
	name, realm, err := l.name(cfg.LibDefaults.DefaultRealm)
	if err != nil {
		return nil, err
	}
	c := client.NewWithKeytab(name, realm, kt, cfg, client.DisablePAFXFAST(true))
	if err := c.Login(); err != nil {
		c.Destroy()
		return nil, fmt.Errorf("log in as %s: %w", l.Principal, err)
	}
	return c, nil
}

// Check reports whether the key table can be read: a fault of the configuration that need not wait for a connection.
func (l *Login) Check(system vfs.FS) error {
	if l.Keytab == "" {
		return nil
	}
	f, err := system.OpenFile(filepath.Clean(l.Keytab), 0, 0)
	if err != nil {
		return fmt.Errorf("read keytab: %w", err)
	}
	_ = f.Close() // nothing was written
	return nil
}

// name splits the principal; _HOST is this machine's name.
func (l *Login) name(defaultRealm string) (name, realm string, err error) {
	name, realm, _ = strings.Cut(l.Principal, "@")
	if realm == "" {
		realm = defaultRealm
	}
	if service, ok := strings.CutSuffix(name, "/_HOST"); ok {
		host, err := os.Hostname()
		if err != nil {
			return "", "", fmt.Errorf("find the host's name: %w", err)
		}
		name = service + "/" + strings.ToLower(host)
	}
	return name, realm, nil
}

func (l *Login) cached(cfg *config.Config) (*client.Client, error) {
	cache, err := credentials.LoadCCache(l.Cache)
	if err != nil {
		return nil, fmt.Errorf("read ticket cache %s: %w", l.Cache, err)
	}
	c, err := client.NewFromCCache(cache, cfg, client.DisablePAFXFAST(true))
	if err != nil {
		return nil, fmt.Errorf("ticket cache %s: %w", l.Cache, err)
	}
	return c, nil
}

// DefaultCache is where kinit keeps tickets: KRB5CCNAME, if it names a file, else Kerberos's own default.
func DefaultCache() string {
	if name, ok := strings.CutPrefix(os.Getenv("KRB5CCNAME"), "FILE:"); ok || strings.HasPrefix(name, "/") {
		return name
	}
	return fmt.Sprint("/tmp/krb5cc_", os.Getuid())
}
