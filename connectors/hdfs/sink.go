package hdfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/bucket"
	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/kerberos"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/connectors/internal/turn"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "hdfs", Doc: "Writes events into files of HDFS, in directories named after headers and time.",
	Aliases: []string{"org.apache.flume.sink.hdfs.HDFSEventSink"},
	New:     func() core.Sink { return new(sink) },
}

const (
	writeBytes  = 256 << 10 // of a file's buffer when it is written
	bufferBytes = 64 << 20  // of all buffers together when each is written at once
)

type sink struct {
	where       location
	suffix      string
	inUsePrefix string
	inUseSuffix string
	emptySuffix bool
	target      roll.Target
	limits      roll.Limits
	encoding    filetype.Config
	batch       int
	maxOpen     int

	callTimeout, retryInterval, commitInterval time.Duration
	tries, threads                             int
	access                                     access
	hadoopDir                                  string
	hostNames                                  bool
	protection                                 string

	connect   func() (fileSystem, error) // replaced in tests; nil: what hdfs.path says
	env       core.Env
	stream    string // what the streams of marks begin with
	extension string
	session   *session

	life      context.Context // of what goes on in the background
	die, stop context.CancelFunc
	ticks     sync.WaitGroup // the clock
	work      sync.WaitGroup // files that are disposed of
	wake      turn.Wake
	slots     chan struct{} // closes at a time

	lock  turn.Lock             // guards what follows
	files bucket.Table[*output] // live: not yet acked to their end
	open  int                   // of them, those that have not ended
	ends  map[*output]struct{}  // those whose end is on its way; done is closed then
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	s.where = location{}
	k.Func("hdfs.path", "path with escapes", "", "Directory: hdfs://host:port/path, hdfs://nameservice/path, /path in Hadoop's fs.defaultFS, or file:///path.", func(text string) (err error) {
		s.where, err = parseLocation(text)
		s.target.Path = s.where.path
		return err
	}).Required()
	s.target.Prefix.Key(k, "hdfs.filePrefix", "FlumeData", "What the names of files begin with.")
	k.String(&s.suffix, "hdfs.fileSuffix", "", "What the names of files end with, such as .log; in place of the codec's own.")
	k.String(&s.inUsePrefix, "hdfs.inUsePrefix", "", "What the name of a file begins with while it is written.")
	k.String(&s.inUseSuffix, "hdfs.inUseSuffix", ".tmp", "What the name of a file ends with while it is written.")
	k.Bool(&s.emptySuffix, "hdfs.emptyInUseSuffix", false, "No inUseSuffix.")
	s.limits.Keys(k, "hdfs.", roll.Flume)
	k.Batch(&s.batch, "hdfs.batchSize", 100, "Events taken at once; a compressed file has a member, or block, for each such batch.")
	s.encoding.Keys(k, "hdfs.", filetype.SequenceFile)
	k.Int(&s.maxOpen, "hdfs.maxOpenFiles", 5000, "Files that are open at a time; one more closes the one that got no event for the longest time.").Must(conf.Min(1))
	k.Millis(&s.callTimeout, "hdfs.callTimeout", 30*time.Second, "How long one call may take: connect, open, write, close, rename. 0: as long as it takes.")
	k.Millis(&s.commitInterval, "hdfs.commitInterval", 10*time.Second, "How long events may wait in an open file for the next commit point, where it is closed and opened again to append; 0: until it ends.").Must(conf.Min(0))
	k.Int(&s.threads, "hdfs.threadsPoolSize", 10, "Files that are closed at the same time.").Must(conf.Range(1, 1000))
	k.Int(&s.tries, "hdfs.closeTries", math.MaxInt32, "How often it is tried to finish a file whose writer has failed, and to rename one; 0: endlessly.")
	k.Seconds(&s.retryInterval, "hdfs.retryInterval", 180*time.Second, "The longest pause between these tries, which begin with 1 s; 0: one try.")
	s.target.Clock.Keys(k, "hdfs.")
	k.String(&s.access.login.Principal, "hdfs.kerberosPrincipal", "", "Who to be for Kerberos: name@REALM or name/_HOST@REALM.")
	k.String(&s.access.login.Keytab, "hdfs.kerberosKeytab", "", "File with the key of the principal.")
	k.String(&s.access.nameNode, "hdfs.nameNodePrincipal", "", "The name node's principal, such as nn/_HOST; Hadoop's dfs.namenode.kerberos.principal by default.")
	k.String(&s.access.login.Conf, "hdfs.krb5Conf", kerberos.DefaultConf, "Kerberos's configuration.")
	k.String(&s.access.proxyUser, "hdfs.proxyUser", "", "User to write as; with Kerberos, Hadoop's hadoop.proxyuser keys must let the principal.")
	k.String(&s.hadoopDir, "hdfs.hadoopConfDir", "", "Directory of Hadoop's core-site.xml and hdfs-site.xml; HADOOP_CONF_DIR by default.")
	k.Bool(&s.hostNames, "hdfs.useDatanodeHostname", false, "Connect to data nodes by their names and not their addresses.")
	k.String(&s.protection, "hdfs.dataTransferProtection", "", "Hadoop's dfs.data.transfer.protection, which is read from its files too.").Must(conf.OneOf("authentication", "integrity", "privacy"))
	k.Inert("hdfs.rollTimerPoolSize", "One clock serves all files.")
	k.Inert("hdfs.minBlockReplicas", "A file whose replicas fail while it is written does not close, and is written again as a whole.")
	k.Inert("hdfs.useRawLocalFileSystem", "A file: path never gets checksum files.")
	k.Inert("hdfs.txnEventMax", "It is called hdfs.batchSize since Flume 1.0.")
	k.Check(s.check)
}

func (s *sink) check(r *conf.Report) {
	if s.emptySuffix && r.IsSet("hdfs.inUseSuffix") {
		r.Warn("hdfs.inUseSuffix", "has no effect with hdfs.emptyInUseSuffix = true")
	}
	if s.callTimeout < 0 {
		s.callTimeout = 0
	}
	if s.tries <= 0 {
		s.tries = math.MaxInt
		r.Warn("hdfs.closeTries", "means endlessly")
	}
	if s.retryInterval <= 0 {
		s.retryInterval, s.tries = time.Second, 1
		r.Warn("hdfs.retryInterval", "means one try")
	}
	for key, text := range map[string]string{"hdfs.fileSuffix": s.suffix, "hdfs.inUsePrefix": s.inUsePrefix, "hdfs.inUseSuffix": s.inUseSuffix} {
		if strings.ContainsAny(text, "/:") {
			r.Error(key, "%q is not a part of a file's name in HDFS", text)
		}
	}
	if (s.access.login.Principal == "") != (s.access.login.Keytab == "") {
		r.Error("hdfs.kerberosPrincipal", "goes with hdfs.kerberosKeytab")
	}
}

// Open implements core.Component. It connects only when there is something to write.
func (s *sink) Open(_ context.Context, env core.Env) error {
	s.env, s.stream = env, env.Name+":hdfs:"
	if s.emptySuffix {
		s.inUseSuffix = ""
	}
	if s.extension = s.suffix; s.extension == "" {
		s.extension = s.encoding.Extension()
	}
	dial := s.dialer(s.where.authority)
	if s.connect == nil && s.where.scheme == "file" {
		dial = func() (fileSystem, error) { return local{env.FS}, nil }
	}
	s.encoding.Open(env, s.readFile)
	if err := s.access.login.Check(env.FS); err != nil {
		return err
	}
	s.session = &session{dial: dial, timeout: s.callTimeout}
	s.target.Open(env, "hdfs.")
	s.lock, s.wake, s.slots = turn.NewLock(), turn.NewWake(), make(chan struct{}, s.threads)
	s.files = bucket.Table[*output]{
		Target: &s.target, Limits: &s.limits, Wake: s.wake, Most: s.maxOpen,
		Name: s.name, Ready: s.ready, Grown: s.grown,
		Buckets: map[string]*bucket.Bucket[*output]{}, Live: map[*output]struct{}{},
	}
	s.open, s.ends = 0, map[*output]struct{}{}
	s.life, s.die = context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(s.life)
	s.stop = stop
	s.resume()
	s.ticks.Go(func() { turn.Clock(ctx, s.lock, s.wake, turn.Idle, s.tick) })
	return nil
}

// dialer returns what connects to the HDFS of an authority.
func (s *sink) dialer(authority string) func() (fileSystem, error) {
	if s.connect != nil {
		return s.connect
	}
	return func() (fileSystem, error) { return s.dialCluster(authority) }
}

// readFile is a format.ReadHDFS. It makes a connection of its own: schemas are
// read once in minutes, and perhaps from another cluster.
func (s *sink) readFile(authority, path string, limit int64) ([]byte, error) {
	once := session{dial: s.dialer(authority), timeout: s.callTimeout}
	defer once.drop()
	return ask(&once, func(f fileSystem) ([]byte, error) { return f.Read(path, limit) })
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	events, err := s.encoding.Prepare(ctx, tx.Batch().Events)
	if err == nil {
		err = s.lock.Acquire(ctx)
	}
	if err != nil {
		tx.Rollback(err)
		return
	}
	defer s.lock.Release()
	l := s.files.Lease(tx)
	if _, err := s.files.Put(ctx, l, &events, s.env.Now()); err != nil {
		s.fail(err)
		return
	}
	if l.Left > 0 {
		tx.Unpin() // all is encoded
	}
}

// grown ends a file that is full, and writes much that is in its buffer.
func (s *sink) grown(o *output) error {
	if s.limits.Full(o.Total, o.InBodies) {
		s.end(o)
		return nil
	}
	if len(o.Buf) >= writeBytes || s.files.Buffered > bufferBytes {
		return s.flush(o)
	}
	return nil
}

// flush writes what o has in its buffer.
func (s *sink) flush(o *output) error {
	before := len(o.Buf)
	err := s.write(o)
	s.files.Buffered -= before
	return err
}

var errClosed = errors.New("sink is closed")

// fail rolls back what is not acked, wherever it is: a lease ends as a whole,
// so no file may keep a part of one. Nothing of it stays visible, since it will
// be delivered again. The connection goes too, or HDFS would take the files that
// failed for being written still.
func (s *sink) fail(cause error) {
	s.session.drop()
	for o := range s.files.Live {
		o.dead = true
		if !o.Ended { // the others are buried by who ends them
			s.detach(o)
			s.bury(o)
		}
	}
	s.files.RollBack(cause)
}

// commit makes what open files hold durable, and acks it.
func (s *sink) commit(outputs []*output) error {
	errs := make([]error, len(outputs))
	var all sync.WaitGroup
	for i, o := range outputs {
		s.files.Buffered -= len(o.Buf)
		s.slots <- struct{}{}
		all.Go(func() {
			errs[i] = s.close(o)
			<-s.slots
		})
	}
	all.Wait()
	for i, o := range outputs {
		if errs[i] == nil {
			errs[i] = s.ack(o)
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.fail(err)
		return err
	}
	return nil
}

// Flush implements core.Sink.
func (s *sink) Flush(ctx context.Context) error {
	if err := s.lock.Acquire(ctx); err != nil {
		return err
	}
	err := s.commit(s.files.Holding(time.Now(), 0))
	ends := slices.Collect(maps.Keys(s.ends))
	s.lock.Release()
	return errors.Join(err, await(ctx, ends))
}

// await waits for the ends of files that are being closed.
func await(ctx context.Context, ends []*output) error {
	for _, o := range ends {
		select {
		case <-o.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close implements core.Sink: it finishes every file.
func (s *sink) Close(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.stop = nil
	s.ticks.Wait()
	err := s.lock.Acquire(ctx)
	if err == nil {
		for o := range s.files.Live {
			if !o.Ended {
				s.end(o)
			}
		}
		ends := slices.Collect(maps.Keys(s.ends))
		s.lock.Release()
		err = await(ctx, ends)
	}
	s.die()
	s.session.drop()
	if err != nil {
		return fmt.Errorf("finish files: %w", err)
	}
	s.work.Wait()
	s.lock.Take()
	defer s.lock.Release()
	s.files.RollBack(errClosed)
	return nil
}

// Place implements core.Placer: the directory, and what the names of files in it begin with.
func (s *sink) Place(e core.Event, now time.Time) (string, error) {
	dir, prefix := s.target.Place(e.Headers, now)
	place := join(dir, prefix)
	if s.where.authority != "" {
		place = s.where.scheme + "://" + s.where.authority + place
	}
	return place, nil
}
