package filetype

import (
	"context"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Encoder turns events into the bytes of one file. Each method but the last two
// appends to dst and returns it. It is used by one goroutine at a time.
type Encoder interface {
	// Begin appends what a new file begins with; not called where one is resumed.
	Begin(dst []byte) []byte
	// Append appends events. Some may be kept back until Flush.
	Append(dst []byte, events []core.Event) []byte
	// Flush appends what was kept back. After it the file may end, or be cut,
	// or be gone on with.
	Flush(dst []byte) []byte
	// State is what Resume needs to go on with this file after any later Flush.
	State() string
	// Resume makes a new encoder go on with a file that was cut after a Flush.
	// False: the state is of another format, the file must be left as it is.
	Resume(state string) bool
}

// Config is what the key fileType and those that go with it say.
type Config struct {
	prefix string // of the keys
	kind   string
	codec  *codec // nil: none
	text   bool   // SequenceFile: values are Text, not BytesWritable
	format format.Config
}

// The file types.
const (
	SequenceFile     = "SequenceFile"
	DataStream       = "DataStream"
	CompressedStream = "CompressedStream"
)

// Keys binds e to the keys fileType, codeC and writeFormat below prefix, and to
// serializer and those below that. kind is the file type by default.
func (e *Config) Keys(k *conf.Keys, prefix, kind string) {
	*e = Config{prefix: prefix, kind: kind}
	k.Func(prefix+"fileType", "file type", kind, "SequenceFile, DataStream (what the serializer writes), or CompressedStream (the same through "+prefix+"codeC).", func(text string) error {
		for _, kind := range [...]string{SequenceFile, DataStream, CompressedStream} {
			if strings.EqualFold(text, kind) {
				e.kind = kind
				return nil
			}
		}
		return errFileType
	})
	k.Func(prefix+"codeC", "codec", "", "Compression: gzip, bzip2, snappy, lz4, zstd, deflate, or the class of Hadoop's codec.", func(text string) (err error) {
		e.codec, err = codecOf(text)
		return err
	})
	k.Func(prefix+"writeFormat", "write format", "Writable", "What a value of a SequenceFile is: Writable (BytesWritable) or Text.", func(text string) error {
		switch {
		case strings.EqualFold(text, "Text"), text == hdfsPackage+"HDFSTextSerializer$Builder":
			e.text = true
		case strings.EqualFold(text, "Writable"), text == hdfsPackage+"HDFSWritableSerializer$Builder":
			e.text = false
		default:
			return errWriteFormat
		}
		return nil
	})
	format.Keys(k, "serializer", &e.format)
	k.Check(e.check)
}

func (e *Config) check(r *conf.Report) {
	switch {
	case e.kind == DataStream && e.codec != nil:
		r.Error(e.prefix+"codeC", "DataStream is not compressed: use fileType = CompressedStream")
	case e.kind == CompressedStream && e.codec == nil:
		r.Error(e.prefix+"fileType", "CompressedStream needs %scodeC", e.prefix)
	case e.kind == SequenceFile && r.IsSet("serializer"):
		r.Warn("serializer", "has no effect with SequenceFile: %swriteFormat says what is written", e.prefix)
	}
}

// Extension is what the names of files end with by their codec, such as .gz; else empty.
func (e *Config) Extension() string {
	if e.codec != nil {
		return e.codec.extension
	}
	return ""
}

// Open makes e ready for Prepare. hdfs reads a schema's file in HDFS; nil: none is read there.
func (e *Config) Open(env core.Env, hdfs format.ReadHDFS) { e.format.Open(env, hdfs) }

// Prepare finds what there is to know of events before they are written: see
// format.Config. An error is temporary.
func (e *Config) Prepare(ctx context.Context, events []core.Event) (format.Prepared, error) {
	if e.kind == SequenceFile { // has its own formats
		return format.Prepared{}, nil
	}
	return e.format.Prepare(ctx, events)
}

// New returns the encoder of one file. now is asked for the time of an event
// that has none, where the file type shows it. schema is that of the file's
// events, as Prepare says; nil is enough for Resume.
func (e *Config) New(now func() time.Time, schema *format.BodySchema) Encoder {
	switch e.kind {
	case DataStream:
		return plain{e.format.New(schema)}
	case CompressedStream:
		return &compressed{plain: plain{e.format.New(schema)}, codec: e.codec}
	}
	return newSequence(e.text, e.codec, now)
}

// plain is DataStream.
type plain struct{ format.Serializer }

func (p plain) Append(dst []byte, events []core.Event) []byte {
	dst, _ = p.Serializer.Append(dst, events, 0)
	return dst
}

// compressed is CompressedStream: each Flush ends a member, as in Flume, and so
// do a million bytes.
type compressed struct {
	plain
	codec *codec
	raw   []byte
}

const memberBytes = 1 << 20

func (c *compressed) Begin(dst []byte) []byte {
	c.raw = c.plain.Begin(c.raw)
	return dst
}

func (c *compressed) Append(dst []byte, events []core.Event) []byte {
	for len(events) > 0 {
		n := 0
		c.raw, n = c.Serializer.Append(c.raw, events, memberBytes)
		events = events[n:]
		if len(c.raw) >= memberBytes {
			dst = c.member(dst)
		}
	}
	return dst
}

func (c *compressed) Flush(dst []byte) []byte {
	c.raw = c.plain.Flush(c.raw)
	return c.member(dst)
}

func (c *compressed) State() string { return c.codec.name + " " + c.plain.State() }

func (c *compressed) Resume(state string) bool {
	name, rest, _ := strings.Cut(state, " ")
	return name == c.codec.name && c.plain.Resume(rest)
}

func (c *compressed) member(dst []byte) []byte {
	if len(c.raw) > 0 {
		dst = c.codec.compress(dst, c.raw)
		c.raw = c.raw[:0]
	}
	return dst
}
