//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHDFSKerberos writes into an HDFS that asks for Kerberos, with each
// protection of the transfers: as oneself and for another user, killed in the
// middle, and longer than a ticket is good. A key that is no longer the
// principal's is said to be wrong.
func TestHDFSKerberos(t *testing.T) {
	if !long() {
		t.Skip("a KDC and three clusters are for the long form")
	}
	dir := workDir(t)
	krb := filepath.Join(runDir(), "krb-e2e")
	daemon(t, vars{"KRB_LIFETIME": "2m"}, "krb.sh", "start", "e2e", port(t))
	for _, protection := range []string{"authentication", "integrity", "privacy"} {
		t.Run(protection, func(t *testing.T) {
			dir := filepath.Join(dir, protection)
			nn := hdfs(t, 1, vars{"HDFS_KRB": "e2e", "HDFS_PROTECTION": protection})
			nn.do(t, "sh", "-mkdir", "/flume", "/other", "/wrong")
			nn.do(t, "sh", "-chmod", "777", "/flume", "/other", "/wrong")
			access := func(more vars) vars {
				v := vars{"E2E_KEYTAB": filepath.Join(krb, "flume.keytab"), "E2E_KRB5": filepath.Join(krb, "krb5.conf")}
				for k, value := range more {
					v[k] = value
				}
				return v
			}
			kerberized := func(writer string, more vars) *stream {
				return newStream(t, nn, dir, "hdfs-kerberos.conf", writer, access(more))
			}

			wrong := kerberized("wrong", vars{"E2E_KEYTAB": filepath.Join(krb, "other.keytab")})
			wrong.grow(10)
			wrong.start()
			eventually(t, "the wrong key is named in the log", func() bool {
				text, err := os.ReadFile(wrong.agent.log)
				return err == nil && strings.Contains(string(text), "log in as flume/localhost@EXAMPLE.TEST")
			})
			wrong.kill9()

			self, other := kerberized("flume", nil), kerberized("other", nil)
			text, err := os.ReadFile(other.conf)
			must(t, err)
			other.conf = filepath.Join(dir, "proxy.conf")
			write(t, other.conf, string(text)+"a1.sinks.store.hdfs.proxyUser = alice\n")
			self.start()
			other.start()
			for k := range 3 {
				self.delivers(fmt.Sprint("as oneself, after kill ", k))
				other.delivers(fmt.Sprint("for another user, after kill ", k))
				self.kill9()
				other.kill9()
				self.start()
				other.start()
			}
			if protection == "privacy" {
				// Longer than two tickets are good, with the name node restarted
				// at the end of each: then another login is made.
				for range 2 {
					for end := time.Now().Add(130 * time.Second); time.Now().Before(end); {
						self.grow(50)
						self.delivers("while tickets get old")
						time.Sleep(time.Second)
					}
					nn.do(t, "halt", "nn1")
					nn.do(t, "up", "nn1")
				}
				self.delivers("after the tickets' time")
			}
			for s, owner := range map[*stream]string{self: "flume", other: "alice"} {
				files := s.read(t)
				s.stop()
				s.exactly(files)
				for _, f := range files {
					if f.owner != owner {
						t.Errorf("%s belongs to %s, not to %s", f.path, f.owner, owner)
					}
				}
				t.Logf("%s: %d lines in %d files of %s, 3 kills", protection, s.written, len(files), owner)
			}
		})
	}
}
