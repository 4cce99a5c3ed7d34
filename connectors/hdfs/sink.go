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

	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/format"
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

	lock      turn.Lock // guards what follows
	buckets   map[string]*bucket
	live      map[*output]struct{} // not yet acked to their end
	open      int                  // of them, those that are not ending
	ends      map[*output]struct{} // those whose end is on its way; done is closed then
	buffered  int                  // bytes in the buffers of those
	leases    []*lease             // with events that are not acked, in order
	forgotten []string             // streams whose marks the next ack drops
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
	s.buckets, s.live, s.ends = map[string]*bucket{}, map[*output]struct{}{}, map[*output]struct{}{}
	s.open, s.buffered, s.leases, s.forgotten = 0, 0, nil, nil
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
	n := len(tx.Batch().Events)
	if n == 0 {
		tx.Ack(nil)
		return
	}
	l := &lease{tx, n}
	s.leases = append(s.leases, l)
	if err := s.deliver(ctx, l, &events); err != nil {
		s.fail(err)
		return
	}
	if l.left > 0 {
		tx.Unpin() // all is encoded
	}
}

// deliver puts the events of l, in order, into their files. After an error l is
// among the leases, unless nothing of it is left.
func (s *sink) deliver(ctx context.Context, l *lease, prepared *format.Prepared) error {
	events := l.tx.Batch().Events
	now := s.env.Now()
	var touched []*output
	for from := 0; from < len(events); {
		if why := prepared.Refused(from); why != nil {
			s.refuse(l, from, why)
			from++
			continue
		}
		h := events[from].Headers
		to := from + 1
		for to < len(events) && events[to].Headers == h && prepared.Refused(to) == nil {
			to++
		}
		b := s.bucketOf(h, now, to-from, prepared.Schema(from))
		for from < to {
			if err := s.ready(ctx, b, l); err != nil {
				return err
			}
			o := b.out
			n := s.fit(o, events[from:to])
			if len(o.held) == 0 || o.held[len(o.held)-1].lease != l {
				touched = append(touched, o)
			}
			s.add(o, l, from, events[from:from+n])
			from += n
			if s.limits.Full(o.total, o.bytes) {
				s.end(o)
				continue
			}
			if len(o.buf) >= writeBytes || s.buffered > bufferBytes {
				if err := s.flush(o); err != nil {
					return err
				}
			}
		}
	}
	for _, o := range touched {
		if !o.ending {
			s.cuttable(o)
		}
	}
	return nil
}

// refuse says that event i of l can never be written.
func (s *sink) refuse(l *lease, i int, why error) {
	l.left--
	if l.left == 0 { // l ends with this
		s.leases = keep(s.leases, func(other *lease) bool { return other != l })
	}
	l.tx.Refuse(i, why)
}

// flush writes what o has in its buffer.
func (s *sink) flush(o *output) error {
	before := len(o.buf)
	err := s.write(o)
	s.buffered -= before
	return err
}

// fit returns how many of events o takes, at least one.
func (s *sink) fit(o *output, events []core.Event) int {
	bytes := o.bytes
	for i := range events {
		bytes += int64(len(events[i].Body))
		if s.limits.Full(o.total+int64(i+1), bytes) {
			return i + 1
		}
	}
	return len(events)
}

// bucketOf returns where n events with these headers go.
func (s *sink) bucketOf(h core.Headers, now time.Time, n int, schema *format.BodySchema) *bucket {
	target, split := s.target.Of(h, now, n)
	end := len(target)
	if schema != nil {
		target = append(append(target, 0), schema.ID...)
	}
	if b := s.buckets[string(target)]; b != nil {
		return b
	}
	if len(s.buckets) >= s.maxOpen {
		s.forgetBucket()
	}
	key := string(target)
	b := &bucket{key: key, dir: clean(key[:split]), prefix: strings.TrimPrefix(clean(key[split+1:end]), "/"), schema: schema}
	b.counter = s.counter(b.dir, b.prefix)
	s.buckets[key] = b
	return b
}

// counter is where the numbers of a bucket's files come from: buckets whose files
// have the same names but for them share it. A number is not used again, since
// the file that had it may still be about to be removed.
func (s *sink) counter(dir, prefix string) *int64 {
	for _, b := range s.buckets {
		if b.dir == dir && b.prefix == prefix {
			return b.counter
		}
	}
	return new(int64)
}

// forgetBucket drops the oldest bucket without a file.
func (s *sink) forgetBucket() {
	var oldest *bucket
	for _, b := range s.buckets {
		if b.out == nil && (oldest == nil || b.used.Before(oldest.used)) {
			oldest = b
		}
	}
	if oldest != nil {
		delete(s.buckets, oldest.key)
	}
}

var (
	errLost   = errors.New("lease was taken away")
	errClosed = errors.New("sink is closed")
)

// fail rolls back what is not acked, wherever it is: a lease ends as a whole,
// so no file may keep a part of one. Nothing of it stays visible, since it will
// be delivered again. The connection goes too, or HDFS would take the files that
// failed for being written still.
func (s *sink) fail(cause error) {
	s.session.drop()
	for o := range s.live {
		o.dead = true
		if !o.ending { // the others are buried by who ends them
			s.detach(o)
			s.bury(o)
		}
	}
	for _, l := range s.leases {
		l.tx.Rollback(cause)
	}
	s.leases = nil
}

// commit makes what open files hold durable, and acks it.
func (s *sink) commit(outputs []*output) error {
	errs := make([]error, len(outputs))
	var all sync.WaitGroup
	for i, o := range outputs {
		s.buffered -= len(o.buf)
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

// holding are the open files in which something is not acked, for at least that long.
func (s *sink) holding(now time.Time, age time.Duration) (list []*output) {
	for o := range s.live {
		if !o.ending && len(o.held) > 0 && now.Sub(o.since) >= age {
			list = append(list, o)
		}
	}
	return list
}

// Flush implements core.Sink.
func (s *sink) Flush(ctx context.Context) error {
	if err := s.lock.Acquire(ctx); err != nil {
		return err
	}
	err := s.commit(s.holding(time.Now(), 0))
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
		for o := range s.live {
			if !o.ending {
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
	for _, l := range s.leases {
		l.tx.Rollback(errClosed)
	}
	s.leases = nil
	return nil
}

// keep returns the elements that ok holds for, in the same memory.
func keep[T any](list []T, ok func(T) bool) []T {
	n := 0
	for _, v := range list {
		if ok(v) {
			list[n] = v
			n++
		}
	}
	clear(list[n:])
	return list[:n]
}

// Place implements core.Placer: the directory, and what the names of files in it begin with.
func (s *sink) Place(e core.Event, now time.Time) (string, error) {
	dir, prefix := s.target.Place(e.Headers, now)
	place := strings.TrimSuffix(clean(dir), "/") + clean(prefix)
	if s.where.authority != "" {
		place = s.where.scheme + "://" + s.where.authority + place
	}
	return place, nil
}
