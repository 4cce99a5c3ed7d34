package spooldir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "spooldir", Doc: "Takes in the files that are put into a directory, and renames or deletes them when they are stored.",
	Aliases: []string{"org.apache.flume.source.SpoolDirectorySource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	dir               string
	suffix            string
	asideSuffix       string
	deletePolicy      string
	tracking          string
	trackerDir        string
	fileHeader        bool
	fileHeaderKey     string
	basenameHeader    bool
	basenameHeaderKey string
	include, ignore   *javaregex.Regexp
	recursive         bool
	order             string
	batch             int
	poll              time.Duration
	inputCharset      *charset.Charset
	outputCharset     *charset.Charset
	policy            string
	compression       string
	deserializer      string
	maxLine           int
	schemaType        string
	maxBlock, maxBlob int64
	lines             lines.Options

	joined            *lines.Counters
	splits, malformed *metric.Extra
	t                 *spooler
}

// Values of keys.
const (
	never     = "never"
	immediate = "immediate"

	byRename  = "rename"
	byTracker = "tracker_dir"

	oldest   = "oldest"
	youngest = "youngest"
	random   = "random"

	auto = "auto"
	none = "none"

	lineType = "LINE"
	avroType = "AVRO"
	blobType = "BLOB"

	hashSchema    = "HASH"
	literalSchema = "LITERAL"
)

// deserializers are the names of each kind; Flume's classes count with and
// without the builder inside them.
var deserializers = map[string]string{
	"line": lineType, "org.apache.flume.serialization.linedeserializer": lineType,
	"avro": avroType, "org.apache.flume.serialization.avroeventdeserializer": avroType,
	"blob": blobType, "org.apache.flume.sink.solr.morphline.blobdeserializer": blobType,
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.String(&s.dir, "spoolDir", "", "The directory that files are put into. It must be there at start.").Required()
	k.String(&s.suffix, "fileSuffix", ".COMPLETED", "What is added to the names of finished files. Names that end so are not read.").Must(conf.NotEmpty())
	k.String(&s.deletePolicy, "deletePolicy", never, "Whether finished files are deleted.").Must(conf.OneOf(never, immediate))
	k.String(&s.tracking, "trackingPolicy", byRename, "How finished files are told from new ones: they are renamed, or they have an empty file of the same name, with fileSuffix, in trackerDir; then spoolDir need not be writable.").Must(conf.OneOf(byRename, byTracker))
	k.String(&s.trackerDir, "trackerDir", ".flumespool", "Where the place in the file being read is kept, and the tracker files. A relative path is one below spoolDir.").Must(conf.NotEmpty())
	k.Bool(&s.fileHeader, "fileHeader", false, "Add a header with the absolute path of the file.")
	k.String(&s.fileHeaderKey, "fileHeaderKey", "file", "Name of that header.")
	k.Bool(&s.basenameHeader, "basenameHeader", false, "Add a header with the name of the file.")
	k.String(&s.basenameHeaderKey, "basenameHeaderKey", "basename", "Name of that header.")
	javaregex.WholeKey(k, &s.include, "includePattern", "^.*$", "What the whole name of a file must match, without its directory.")
	javaregex.WholeKey(k, &s.ignore, "ignorePattern", "^$", "Files, and directories, whose whole name matches are not read, whatever includePattern says.")
	k.Bool(&s.recursive, "recursiveDirectorySearch", false, "Read files in directories below as well.")
	k.String(&s.order, "consumeOrder", oldest, "Which file comes next, by time of last change, then by name; random: as they are found, without asking for times.").Must(conf.OneOf(oldest, youngest, random))
	k.Batch(&s.batch, "batchSize", 100, "Events put in one transaction at most.")
	k.Millis(&s.poll, "pollDelay", 500*time.Millisecond, "How long to wait before looking again when there is nothing to read.").Must(conf.Min(1))
	charset.Key(k, &s.inputCharset, "inputCharset", "Encoding of the files, for LINE.")
	k.String(&s.policy, "decodeErrorPolicy", fail, "What becomes of bytes that are no characters in it: the file is set aside at that place (fail), they become U+FFFD (replace), or nothing (ignore).").Must(conf.OneOf(fail, replace, ignore))
	k.String(&s.compression, "compression", auto, "Read files that begin as gzip's do through (auto; not for BLOB), or as they are (none).").Must(conf.OneOf(auto, none)).Since("1.0")
	k.String(&s.asideSuffix, "asideSuffix", ".FAILED", "What is added to the names of files that were set aside: damaged or changed ones. Names that end so are not read.").Must(conf.NotEmpty()).Since("1.0")
	s.deserializer = lineType
	k.Func("deserializer", "deserializer", lineType, "What becomes an event: a line (LINE), a record of an Avro object container file (AVRO), or the whole file (BLOB). Flume's class names are known.", func(text string) error {
		name := strings.TrimSuffix(strings.ToLower(text), "$builder")
		kind, ok := deserializers[name]
		switch {
		case ok:
			s.deserializer = kind
		case strings.Contains(name, "."):
			return errors.New("is a class of your own, and Java classes do not run here: LINE, AVRO and BLOB are there")
		default:
			return errors.New("must be one of LINE, AVRO, BLOB")
		}
		return nil
	})
	k.Int(&s.maxLine, "deserializer.maxLineLength", 2048, "LINE: the longest line, in characters as Java counts them (UTF-16). A longer one becomes several events.").Alias("bufferMaxLineLength").Must(conf.Range(1, 64<<20))
	charset.Key(k, &s.outputCharset, "deserializer.outputCharset", "LINE: encoding of the bodies.")
	k.String(&s.schemaType, "deserializer.schemaType", hashSchema, "AVRO: the schema's hash, in the header flume.avro.schema.hash, or the schema itself, in flume.avro.schema.literal.").Must(conf.OneOf(hashSchema, literalSchema))
	k.Bytes(&s.maxBlock, "deserializer.maxBlockBytes", 64<<20, "AVRO: the longest block of a file, also when decompressed.").Must(conf.Range(1, 1<<30)).Since("1.0")
	k.Bytes(&s.maxBlob, "deserializer.maxBlobLength", 100_000_000, "BLOB: the longest event. A longer file becomes several.").Must(conf.Range(1, 1<<30))
	k.Inert("bufferMaxLines", "Nothing is buffered by lines; Flume ignores it as well.")
	k.Inert("maxBackoff", "A full channel is waited for, without pauses between attempts.")
	s.lines.Keys(k)
	k.Check(s.check)
}

func (s *source) check(r *conf.Report) {
	of := map[string]string{
		"deserializer.maxLineLength": lineType, "deserializer.outputCharset": lineType, "inputCharset": lineType, "decodeErrorPolicy": lineType,
		"deserializer.schemaType": avroType, "deserializer.maxBlockBytes": avroType, "deserializer.maxBlobLength": blobType,
	}
	for key, kind := range of {
		if kind != s.deserializer && r.IsSet(key) {
			r.Warn(key, "has no effect with deserializer = %s", s.deserializer)
		}
	}
	if s.deserializer != lineType && !s.lines.Plain() {
		r.Error("deserializer", "multiline and container join lines: they go with LINE")
	}
	if s.suffix == s.asideSuffix {
		r.Error("asideSuffix", "is the same as fileSuffix")
	}
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	root, err := filepath.Abs(s.dir)
	if err != nil {
		return fmt.Errorf("find spoolDir: %w", err)
	}
	if fi, err := env.FS.Stat(root); err != nil {
		return fmt.Errorf("look at spoolDir: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("spoolDir %s is not a directory", root)
	}
	tracker := s.trackerDir
	if !filepath.IsAbs(tracker) {
		tracker = filepath.Join(root, tracker)
	}
	if err := vfs.MakeDir(env.FS, tracker, 0o755); err != nil {
		return fmt.Errorf("make trackerDir: %w", err)
	}
	if s.tracking == byRename || s.deletePolicy == immediate {
		if err := canary(env.FS, root); err != nil {
			return fmt.Errorf("check that files of spoolDir can be renamed or deleted (trackingPolicy = tracker_dir needs that not): %w", err)
		}
	}
	s.joined = lines.NewCounters(env.Metrics)
	s.splits = env.Metrics.Counter("lines_split_total", "Lines longer than deserializer.maxLineLength that became several events.")
	s.malformed = env.Metrics.Counter("characters_malformed_total", "Bytes that were no characters in inputCharset: replaced or ignored.")
	t := newSpooler(s, env, root, tracker)
	if err := t.load(); err != nil {
		return err
	}
	s.t = t
	return nil
}

// canary makes a file and removes it.
func canary(fsys vfs.FS, dir string) error {
	name := filepath.Join(dir, fmt.Sprintf(".flume-spooldir-perm-check-%d.canary", os.Getpid()))
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), fsys.Remove(name))
}

// Run implements core.Source.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	err := s.t.run(ctx, out)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Close implements core.Source. Every done has been called: what is finished
// now is all that was stored.
func (s *source) Close() error {
	t := s.t
	if t == nil {
		return nil
	}
	s.t = nil
	return t.close()
}
