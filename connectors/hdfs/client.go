package hdfs

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	hadoop "github.com/colinmarc/hdfs/v2"
	krbclient "github.com/jcmturner/gokrb5/v8/client"

	"github.com/millrace/millrace/connectors/internal/kerberos"
)

// access says who the sink is for HDFS.
type access struct {
	login     kerberos.Login
	nameNode  string // its principal
	proxyUser string // to act for; empty: oneself
}

// cluster is HDFS through github.com/colinmarc/hdfs.
type cluster struct {
	c       *hadoop.Client
	krb     *krbclient.Client
	timeout time.Duration
	// one is held while data are written where the library would race with
	// itself: it fetches a key for protected transfers without a lock.
	one sync.Mutex
	// protected: data transfers are.
	protected bool
	replicas  replicas
	closed    sync.Once
}

// dialCluster connects to the HDFS of an authority, as the keys say.
func (s *sink) dialCluster(authority string) (fileSystem, error) {
	conf, err := hadoopConf(s.hadoopDir)
	if err != nil {
		return nil, err
	}
	o := hadoop.ClientOptionsFromConf(conf)
	if o.Addresses, err = nameNodes(authority, conf); err != nil {
		return nil, err
	}
	if s.hostNames {
		o.UseDatanodeHostname = true
	}
	if s.protection != "" {
		o.DataTransferProtection = s.protection
	}
	o.NamenodeDialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: s.callTimeout}).DialContext(ctx, network, addr)
		if err != nil || s.callTimeout <= 0 {
			return c, err
		}
		return &bounded{c, s.callTimeout}, nil
	}
	o.DatanodeDialFunc = (&net.Dialer{Timeout: s.callTimeout}).DialContext
	f := &cluster{timeout: s.callTimeout, protected: o.DataTransferProtection != ""}
	wanted := o.KerberosClient != nil
	o.KerberosClient = nil
	switch {
	case s.access.login.Principal != "":
		if f.krb, err = s.access.login.Client(); err != nil {
			return nil, err
		}
		o.KerberosClient = f.krb
		if s.access.proxyUser != "" {
			// The library tells HDFS this name as the one to act for, and proves
			// the principal, which gokrb5 keeps apart from it. HDFS lets it do so
			// if hadoop.proxyuser.NAME of the principal's short name says so.
			f.krb.Credentials.SetUserName(s.access.proxyUser)
		}
		if s.access.nameNode != "" {
			o.KerberosServicePrincipleName = s.access.nameNode
		}
		if o.KerberosServicePrincipleName == "" {
			o.KerberosServicePrincipleName = "nn/_HOST"
		}
	case wanted:
		return nil, errors.New("Hadoop's configuration asks for Kerberos: set hdfs.kerberosPrincipal and hdfs.kerberosKeytab")
	default:
		o.User = s.access.user()
	}
	if f.c, err = hadoop.NewClient(o); err != nil {
		f.logout()
		return nil, err
	}
	// The library keeps the answer, without a lock: it must be there before several ask.
	if _, err = f.c.ServerDefaults(); err != nil {
		_ = f.Close() // the error above is what counts
		return nil, err
	}
	return f, nil
}

// user is whom HDFS believes to see where it does not ask for Kerberos.
func (a *access) user() string {
	if a.proxyUser != "" {
		return a.proxyUser
	}
	if name := os.Getenv("HADOOP_USER_NAME"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// bounded gives up a connection on which nothing moves. The library does not
// notice broken ones, it only makes a new one when a write fails: so after any
// error the connection is closed.
type bounded struct {
	net.Conn
	timeout time.Duration
}

func (b *bounded) Read(p []byte) (int, error) {
	_ = b.SetReadDeadline(time.Now().Add(b.timeout)) // fails where the read fails too
	n, err := b.Conn.Read(p)
	if err != nil {
		_ = b.Close() // the error is what counts
	}
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	_ = b.SetWriteDeadline(time.Now().Add(b.timeout)) // fails where the write fails too
	n, err := b.Conn.Write(p)
	if err != nil {
		_ = b.Close() // the error is what counts
	}
	return n, err
}

func (f *cluster) MkdirAll(dir string) error { return f.c.MkdirAll(dir, 0o755) }

func (f *cluster) Create(path string) (writer, error) {
	w, err := f.c.Create(path)
	if err != nil {
		return nil, err
	}
	return &clusterFile{f: f, w: w, path: path}, nil
}

func (f *cluster) Append(path string) (writer, error) {
	if f.protected {
		f.one.Lock()
		defer f.one.Unlock()
	}
	w, err := f.replicas.goOn(path, func() (*hadoop.FileWriter, error) { return f.c.Append(path) })
	if err != nil {
		return nil, err
	}
	return &clusterFile{f: f, w: w, path: path, wrote: true}, nil
}

func (f *cluster) Rename(from, to string) error {
	f.replicas.forget(from)
	return f.c.Rename(from, to)
}

func (f *cluster) Remove(path string) error {
	f.replicas.forget(path)
	return f.c.Remove(path)
}

func (f *cluster) Size(path string) (int64, error) {
	info, err := f.c.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *cluster) Read(path string, limit int64) ([]byte, error) {
	r, err := f.c.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // nothing was written
	if f.timeout > 0 {
		if err := r.SetDeadline(time.Now().Add(f.timeout)); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(r, limit))
}

func (f *cluster) Truncate(path string, size int64) (bool, error) { return f.c.Truncate(path, size) }

// Close ends the connection, once: the library's panics the second time.
func (f *cluster) Close() (err error) {
	f.closed.Do(func() {
		err = f.c.Close()
		f.logout()
	})
	return err
}

func (f *cluster) logout() {
	if f.krb != nil {
		f.krb.Destroy()
	}
}

type clusterFile struct {
	f     *cluster
	w     *hadoop.FileWriter
	path  string
	wrote bool
}

func (w *clusterFile) deadline() error {
	if w.f.timeout <= 0 {
		return nil
	}
	return w.w.SetDeadline(time.Now().Add(w.f.timeout))
}

func (w *clusterFile) Write(b []byte) error {
	if w.f.protected {
		w.f.one.Lock()
		defer w.f.one.Unlock()
	}
	if err := w.deadline(); err != nil {
		return err
	}
	w.wrote = true
	_, err := w.w.Write(b)
	return err
}

// Close asks again while the only thing missing is that the name node has
// heard of the blocks. After any other error that answer would mean nothing.
func (w *clusterFile) Close() error {
	if err := w.deadline(); err != nil {
		return err
	}
	if nodes, _ := pipeline(w.w); len(nodes) > 0 {
		w.f.replicas.wrote(w.path, nodes)
	}
	end := time.Now().Add(w.f.timeout)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := w.w.Close()
		if err == nil || !hadoop.IsErrReplicating(err) {
			return err
		}
		if w.f.timeout > 0 && time.Now().Add(wait).After(end) {
			return err
		}
		time.Sleep(wait)
	}
}

// Abandon closes the connection to the data node: with a deadline that has
// passed, the library's Close can do no more.
func (w *clusterFile) Abandon() {
	if w.wrote && w.w.SetDeadline(time.Now().Add(-time.Second)) == nil {
		_ = w.w.Close() // fails, as it should
	}
}
