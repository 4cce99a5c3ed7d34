package tail

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/vfs"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "taildir", Doc: "Follows files that grow, across rotation and restarts.",
	Aliases: []string{"org.apache.flume.source.taildir.TaildirSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	names         []string
	patterns      map[string]string
	headers       map[string]string
	positionFile  string
	batch         int
	maxBatches    int64
	skipToEnd     bool
	idle          time.Duration
	writeInterval time.Duration
	poll          time.Duration
	byteOffset    bool
	fileHeader    bool
	fileHeaderKey string
	cache         bool
	maxEvent      int64
	longLines     string
	compressed    bool
	lines         lines.Options

	groups []*group
	ran    bool // skipToEnd has had its effect
	t      *tailer
}

const (
	split = "split"
	drop  = "drop"
)

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.Words(&s.names, "filegroups", "The file groups, in the order in which they are read.").Required()
	k.Map(&s.patterns, "filegroups.", "Files of a group: a directory, a slash, and a regular expression that matches the whole file name.").As("filegroups.<group>")
	k.Map(&s.headers, "headers.", "A header for all events of a group.").As("headers.<group>.<name>")
	k.String(&s.positionFile, "positionFile", "", "Where positions are kept, in Flume's form. Without it: taildir_position.json in .flume of the home directory, or, where the agent has a state directory, there, below the source's name.")
	k.Batch(&s.batch, "batchSize", 100, "Events put in one transaction at most.")
	k.Int64(&s.maxBatches, "maxBatchCount", math.MaxInt64, "Batches read from one file before the next file has its turn.").Must(conf.Min(1)).OrDefault()
	k.Bool(&s.skipToEnd, "skipToEnd", false, "At start, begin at the end of files that have no stored position.")
	k.Millis(&s.idle, "idleTimeout", 2*time.Minute, "After this long without growth a file is closed, and a last line that has no newline is delivered.").Must(conf.Min(1))
	k.Millis(&s.writeInterval, "writePosInterval", 3*time.Second, "How often positions are written.").Must(conf.Min(1))
	k.Bool(&s.byteOffset, "byteOffsetHeader", false, "Add the header byteoffset, where the line begins in the file.")
	k.Bool(&s.fileHeader, "fileHeader", false, "Add a header with the absolute path of the file.")
	k.String(&s.fileHeaderKey, "fileHeaderKey", "file", "Name of that header.")
	k.Bool(&s.cache, "cachePatternMatching", true, "List a directory only as often as takes half a percent of the time. If false, at every poll.")
	k.Millis(&s.poll, "pollInterval", 250*time.Millisecond, "How often files are looked at where the system does not tell of changes.").Must(conf.Min(1)).Since("1.0")
	k.Bytes(&s.maxEvent, "maxEventBytes", 1<<20, "The longest line that becomes one event.").Must(conf.Range(1, 256<<20)).Since("1.0")
	k.String(&s.longLines, "longLines", split, "What becomes of a longer line: several events (split), or none (drop). Both are counted.").Must(conf.OneOf(split, drop)).Since("1.0")
	k.Bool(&s.compressed, "skipCompressed", true, "Do not read files that begin as gzip, bzip2, xz or zstd do: rotated ones, already read.").Since("1.0")
	s.lines.Keys(k)
	k.Inert("backoffSleepIncrement", "The source does not sleep between reads: see pollInterval.")
	k.Inert("maxBackoffSleep", "The source does not sleep between reads: see pollInterval.")
	k.Check(s.bindGroups)
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	dirs, err := makeDirs(s.groups)
	if err != nil {
		return err
	}
	path, old, err := s.positions(env)
	if err != nil {
		return err
	}
	if err := vfs.MakeDir(env.FS, filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory of position file: %w", err)
	}
	t := newTailer(s, env, dirs)
	t.book = &book{fs: env.FS, path: path}
	t.pending, err = t.book.load(env.Log, old)
	if err != nil {
		return err
	}
	t.skipping = s.skipToEnd && !s.ran
	s.t = t
	return nil
}

// positions returns where the position file is, and where one may be read if
// that is missing: Flume's default, when we have a better one.
func (s *source) positions(env core.Env) (path, old string, err error) {
	if s.positionFile != "" {
		path, err = filepath.Abs(s.positionFile)
		return path, "", err
	}
	home, err := os.UserHomeDir()
	if err == nil {
		old = filepath.Join(home, ".flume", defaultPositions)
	}
	if env.Dir != "" {
		return filepath.Join(env.Dir, cmp.Or(env.Name, Source.Name), defaultPositions), old, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("find place for position file: %w (set positionFile)", err)
	}
	return old, "", nil
}

const defaultPositions = "taildir_position.json"

// Run implements core.Source.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	err := s.t.run(ctx, out)
	s.ran = true
	return err
}

// Close implements core.Source. Every done has been called: what is written
// now is all that was stored.
func (s *source) Close() error {
	t := s.t
	if t == nil {
		return nil
	}
	s.t = nil
	return t.close()
}
