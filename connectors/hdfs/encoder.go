package hdfs

import (
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// encoder turns events into the bytes of one file. Each method appends to dst
// and returns it.
type encoder interface {
	Begin(dst []byte) []byte
	Append(dst []byte, events []core.Event) []byte
	// Flush appends what was kept back. After it the file may end, or be cut,
	// or be gone on with.
	Flush(dst []byte) []byte
}

// encoding is what hdfs.fileType and the keys that go with it say.
type encoding struct {
	kind   string // in lower case
	codec  *codec // nil: none
	text   bool   // SequenceFile: values are Text, not BytesWritable
	format format.Config
}

const (
	sequenceFile     = "SequenceFile"
	dataStream       = "DataStream"
	compressedStream = "CompressedStream"
)

func (e *encoding) keys(k *conf.Keys) {
	e.kind, e.codec, e.text = sequenceFile, nil, false
	k.Func("hdfs.fileType", "file type", sequenceFile, "SequenceFile, DataStream (what the serializer writes), or CompressedStream (the same through hdfs.codeC).", func(text string) error {
		for _, kind := range [...]string{sequenceFile, dataStream, compressedStream} {
			if strings.EqualFold(text, kind) {
				e.kind = kind
				return nil
			}
		}
		return errFileType
	})
	k.Func("hdfs.codeC", "codec", "", "Compression: gzip, bzip2, snappy, lz4, zstd, deflate, or the class of Hadoop's codec.", func(text string) (err error) {
		e.codec, err = codecOf(text)
		return err
	})
	k.Func("hdfs.writeFormat", "write format", "Writable", "What a value of a SequenceFile is: Writable (BytesWritable) or Text.", func(text string) error {
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

func (e *encoding) check(r *conf.Report) {
	switch {
	case e.kind == dataStream && e.codec != nil:
		r.Error("hdfs.codeC", "DataStream is not compressed: use fileType = CompressedStream")
	case e.kind == compressedStream && e.codec == nil:
		r.Error("hdfs.fileType", "CompressedStream needs hdfs.codeC")
	case e.kind == sequenceFile && r.IsSet("serializer"):
		r.Warn("serializer", "has no effect with SequenceFile: hdfs.writeFormat says what is written")
	}
}

func (e *encoding) extension() string {
	if e.codec != nil {
		return e.codec.extension
	}
	return ""
}

func (s *sink) newEncoder() encoder {
	e := &s.encoding
	switch e.kind {
	case dataStream:
		return plain{e.format.New()}
	case compressedStream:
		return &compressed{plain: plain{e.format.New()}, codec: e.codec}
	}
	return newSequence(e.text, e.codec, func() time.Time { return s.env.Now() })
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

func (c *compressed) member(dst []byte) []byte {
	if len(c.raw) > 0 {
		dst = c.codec.compress(dst, c.raw)
		c.raw = c.raw[:0]
	}
	return dst
}
