package s3

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/bucket"
	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/connectors/internal/turn"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "s3", Doc: "Writes events into objects of S3 or of a store like it, with names made of headers and time.",
	New: func() core.Sink { return new(sink) },
}

const (
	writeBytes  = 64 << 10 // of an object's buffer when it is written to the spool
	bufferBytes = 16 << 20 // of all buffers together when each is written at once
	minPart     = 5 << 20  // of all parts but the last, by S3's rules
	maxParts    = 10000    // of an object
	maxKey      = 1024     // bytes of a key
	chunkBytes  = 1 << 20  // that are encoded at once: no more of a batch of large events is in memory twice
	maxEnded    = 1000     // objects that wait to be published
	firstPause  = 250 * time.Millisecond
	writeFlags  = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	partFlags   = os.O_RDWR | os.O_CREATE
	defaultRoll = 128 << 20
)

type sink struct {
	bucket   string
	uri      string // bucket in s3.path
	target   roll.Target
	suffix   string
	limits   roll.Limits
	encoding filetype.Config
	batch    int
	maxOpen  int
	partSize int64

	callTimeout, retryInterval, commitInterval time.Duration
	threads                                    int
	maxBacklog                                 int64
	spoolDir                                   string
	object                                     objectKeys
	access                                     accessKeys
	tls                                        tlsconf.Client

	client    doer // replaced in tests; nil: one of our own
	env       core.Env
	stream    string // what the streams of marks begin with
	where     string
	extension string
	store     *store
	spool     *spool
	failed    *metric.Extra
	refused   *metric.Extra

	life      context.Context // of what goes on in the background
	die, stop context.CancelFunc
	ticks     sync.WaitGroup // the clock
	work      sync.WaitGroup // carriers
	wake      turn.Wake
	freed     turn.Wake     // the backlog got smaller
	slots     chan struct{} // requests at a time

	lock    turn.Lock             // guards what follows
	files   bucket.Table[*output] // objects; live: they take events. (What S3 calls a bucket is the store here.)
	ends    map[*output]struct{}  // that have ended and are not published
	backlog int64                 // bytes that could be in the store
	last    int64                 // number of the newest object
	keeps   bool                  // it was recorded that the channel keeps marks, if it does
	trouble error                 // of the newest request; nil: it went well
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	s.target.Path, s.uri = roll.Template{}, ""
	k.Func("s3.path", "path with escapes", "", "What keys begin with: a path in the bucket, or s3://bucket/path.", func(value string) (err error) {
		bucket, path, err := location(value)
		if err == nil {
			s.uri = bucket
			s.target.Path, err = roll.Parse(path)
		}
		return err
	})
	k.String(&s.bucket, "s3.bucket", "", "Bucket, which must be there; may be part of s3.path.")
	s.target.Prefix.Key(k, "s3.filePrefix", "FlumeData", "What the names of objects begin with.")
	k.String(&s.suffix, "s3.fileSuffix", "", "What the names of objects end with, such as .log; in place of the codec's own.")
	s.limits.Keys(k, "s3.", roll.Limits{Interval: 5 * time.Minute, Size: defaultRoll})
	k.Batch(&s.batch, "s3.batchSize", 100, "Events taken at once; a compressed object has a member, or block, for each such batch.")
	s.encoding.Keys(k, "s3.", filetype.DataStream)
	k.Int(&s.maxOpen, "s3.maxOpenFiles", 500, "Objects that are open at a time; one more ends the one that got no event for the longest time.").Must(conf.Min(1))
	k.Bytes(&s.partSize, "s3.partSize", 8<<20, "Bytes of each part of a multipart upload; an object with no more is put in one request.").Must(conf.Range(minPart, 5<<30))
	k.Int(&s.threads, "s3.threadsPoolSize", 4, "Requests at the same time.").Must(conf.Range(1, 1000))
	k.Millis(&s.callTimeout, "s3.callTimeout", 30*time.Second, "How long one request may take. 0: as long as it takes.")
	k.Seconds(&s.retryInterval, "s3.retryInterval", 30*time.Second, "The longest pause before a request is tried again; the first is 250 ms.").Must(conf.Min(1))
	k.Millis(&s.commitInterval, "s3.commitInterval", 10*time.Second, "How long events may wait in an open object until they are synced in the spool and count as delivered; 0: until it has a whole part, or ends.").Must(conf.Min(0))
	k.String(&s.spoolDir, "s3.spoolDirectory", "", "Directory for what is not yet in the store; on the same volume as the file channel, and of this sink alone. Below the agent's state directory by default, else ~/.flume.")
	k.Bytes(&s.maxBacklog, "s3.maxBacklog", 256<<20, "Bytes in the spool that could be uploaded; with more, events wait in the channel.").Must(conf.Min(minPart))
	s.target.Clock.Keys(k, "s3.")
	s.access.keys(k)
	s.object.keys(k)
	tlsconf.HTTPSKeys(k, &s.tls)
	k.Check(s.check)
}

func (s *sink) check(r *conf.Report) {
	switch {
	case s.bucket == "":
		if s.bucket = s.uri; s.bucket == "" {
			r.Error("s3.bucket", "is missing: name the bucket, here or as s3.path = s3://bucket/path")
		}
	case s.uri != "" && s.uri != s.bucket:
		r.Error("s3.bucket", "%q is not the bucket of s3.path, %q", s.bucket, s.uri)
	}
	if strings.Contains(s.suffix, "/") {
		r.Error("s3.fileSuffix", "%q is not a part of a name: it has a /", s.suffix)
	}
	s.callTimeout = max(s.callTimeout, 0)
	s.access.check(r)
	s.object.check(r, s.access.endpoint != "")
	s.tls.HTTPS(r, s.access.endpoint == "" || strings.HasPrefix(s.access.endpoint, "https:"))
}

// Open implements core.Component. It makes no request.
func (s *sink) Open(_ context.Context, env core.Env) error {
	s.env, s.stream = env, env.Name+":s3:"
	if s.extension = s.suffix; s.extension == "" {
		s.extension = s.encoding.Extension()
	}
	if err := s.connect(); err != nil {
		return err
	}
	dir, err := s.directory()
	if err != nil {
		return err
	}
	if s.spool, err = openSpool(env.FS, dir); err != nil {
		return err
	}
	s.target.Open(env, "s3.")
	s.encoding.Open(env, nil)
	s.failed = env.Metrics.Counter("request_failures_total", "Requests to the store that failed and were, or will be, made again.")
	s.refused = env.Metrics.Counter("objects_refused_total", "Objects that the store refused for good; they are set aside in the spool.")
	s.lock, s.wake, s.freed = turn.NewLock(), turn.NewWake(), turn.NewWake()
	s.slots = make(chan struct{}, s.threads)
	s.files = bucket.Table[*output]{
		Target: &s.target, Limits: &s.limits, Wake: s.wake, Most: s.maxOpen, Chunk: chunkBytes,
		Name: s.name, Ready: s.ready, Grown: s.grown,
		Buckets: map[string]*bucket.Bucket[*output]{}, Live: map[*output]struct{}{},
	}
	s.ends, s.backlog, s.last, s.keeps, s.trouble = map[*output]struct{}{}, 0, 0, false, nil
	s.life, s.die = context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(s.life)
	s.stop = stop
	if err := s.resume(); err != nil {
		s.die()
		s.stop = nil
		_ = s.spool.lock.Close() // the error above is what counts
		return err
	}
	s.ticks.Go(func() { turn.Clock(ctx, s.lock, s.wake, turn.Idle, s.tick) })
	return nil
}

// directory returns where the spool is.
func (s *sink) directory() (string, error) {
	if s.spoolDir != "" {
		return filepath.Abs(s.spoolDir)
	}
	if s.env.Dir != "" {
		return filepath.Join(s.env.Dir, s.env.Name, "spool"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find place for spool: %w (set s3.spoolDirectory)", err)
	}
	return filepath.Join(home, ".flume", s.env.Name+"-s3-spool"), nil
}

// Flush implements core.Sink: a commit point of everything that is open.
func (s *sink) Flush(ctx context.Context) error {
	if err := s.lock.Acquire(ctx); err != nil {
		return err
	}
	defer s.lock.Release()
	return s.commitOr(s.files.Holding(time.Now(), 0))
}

// Close implements core.Sink: it ends every object, and publishes what it can
// until ctx ends. The next start publishes the rest.
func (s *sink) Close(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.stop = nil
	s.ticks.Wait()
	err := s.lock.Acquire(ctx)
	if err == nil {
		err = s.endOr(slices.Collect(maps.Keys(s.files.Live)))
		s.lock.Release()
		if err == nil {
			err = s.published(ctx)
		}
	}
	s.die()
	s.work.Wait()
	s.lock.Take()
	defer s.lock.Release()
	s.files.RollBack(errClosed)
	for o := range s.files.Live {
		o.closeFiles()
	}
	if e := s.spool.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("finish objects: %w", err)
	}
	return nil
}

// published waits until what has ended is published.
func (s *sink) published(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.lock.Take()
	defer s.lock.Release()
	return errors.Join(ctx.Err(), s.trouble)
}
