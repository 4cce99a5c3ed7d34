package format

import (
	"errors"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Config is a choice of serializer, as its keys describe it.
type Config struct {
	kind    kind
	newline bool
	block   int // AVRO_EVENT, AVRO: bytes of a block before compression
	codec   string
	shape   string // JSON

	url     string   // AVRO: of the schema of events that name none
	schemas *schemas // made by Open
}

type kind uint8

const (
	text kind = iota
	headerAndText
	avroEvent
	avroBody
	jsonText
)

// names are the aliases and, of those that Flume has too, the historical builders.
var names = [...][2]string{
	text:          {"TEXT", classes + "BodyTextEventSerializer$Builder"},
	headerAndText: {"HEADER_AND_TEXT", classes + "HeaderAndBodyTextEventSerializer$Builder"},
	avroEvent:     {"AVRO_EVENT", classes + "FlumeEventAvroEventSerializer$Builder"},
	avroBody:      {"AVRO", "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder"},
	jsonText:      {"JSON", "JSON"},
}

const classes = "org.apache.flume.serialization."

var errUnknown = errors.New("is not a serializer: there are TEXT, HEADER_AND_TEXT, AVRO_EVENT, AVRO and JSON (Java classes cannot run here)")

// Keys binds c to the key named prefix (Flume's sink.serializer or serializer)
// and those below it.
func Keys(k *conf.Keys, prefix string, c *Config) {
	c.kind, c.url, c.schemas = text, "", nil
	k.Func(prefix, "serializer", "TEXT", "What is written of an event: TEXT (the body), HEADER_AND_TEXT, AVRO_EVENT (an Avro container file), AVRO (the same of bodies that are Avro already; Flume's AvroEventSerializer), or JSON (an object a line).", c.choose)
	k.Bool(&c.newline, prefix+".appendNewline", true, "TEXT and HEADER_AND_TEXT: end each event with a newline.")
	k.Int(&c.block, prefix+".syncIntervalBytes", 2048000, "AVRO_EVENT, AVRO: size at which a block ends, before compression.").Must(conf.Range(32, 1<<30)).Unit("bytes")
	k.String(&c.codec, prefix+".compressionCodec", "null", "AVRO_EVENT, AVRO: compression of blocks: null, deflate, snappy, bzip2 or zstandard.")
	k.Func(prefix+".schemaURL", "url", "", "AVRO: where the schema of events is that have no header flume.avro.schema.url or flume.avro.schema.literal: file:, http:, https: or, in the hdfs sink, hdfs:.", func(text string) error {
		c.url = text
		_, err := parseURL(text)
		return err
	})
	k.String(&c.shape, prefix+".shape", jsonEvent, `JSON: what an object is. event: {"headers":{...},"body":"..."}, as Flume's http source takes it; flat: each header is a member, the body is the member message.`).
		Must(conf.OneOf(jsonEvent, jsonFlat)).Since("1.0")
	k.Check(func(r *conf.Report) { c.check(r, prefix) })
}

func (c *Config) choose(text string) error {
	for i, n := range names {
		if strings.EqualFold(text, n[0]) || text == n[1] {
			c.kind = kind(i)
			return nil
		}
	}
	return errUnknown
}

func (c *Config) check(r *conf.Report, prefix string) {
	if c.kind != jsonText && r.IsSet(prefix+".shape") {
		r.Warn(prefix+".shape", "has no effect with %s", names[c.kind][0])
	}
	if c.kind == jsonText && r.IsSet(prefix+".appendNewline") {
		r.Warn(prefix+".appendNewline", "has no effect with JSON: each object is a line")
	}
	if c.kind != avroBody && r.IsSet(prefix+".schemaURL") {
		r.Warn(prefix+".schemaURL", "has no effect with %s", names[c.kind][0])
	}
	if c.kind != avroEvent && c.kind != avroBody {
		for _, key := range [...]string{prefix + ".syncIntervalBytes", prefix + ".compressionCodec"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect with %s", names[c.kind][0])
			}
		}
		return
	}
	if r.IsSet(prefix + ".appendNewline") {
		r.Warn(prefix+".appendNewline", "has no effect with %s", names[c.kind][0])
	}
	switch {
	case known(c.codec):
	case c.codec == "xz":
		r.Error(prefix+".compressionCodec", "%q is not supported here: use bzip2 or zstandard", c.codec)
	default:
		r.Warn(prefix+".compressionCodec", "%q is not a codec: blocks are not compressed", c.codec)
	}
}

// New returns a serializer for one file. It is used by one goroutine at a time.
// schema is that of the file's events, as Prepare says; nil where they need none,
// or where the serializer is to resume a file whose schema is not known any more.
func (c *Config) New(schema *BodySchema) Serializer {
	switch c.kind {
	case avroBody:
		return newDatum(c.block, c.codec, schema)
	case avroEvent:
		return newAvro(c.block, c.codec)
	case jsonText:
		return &jsonLines{flat: c.shape == jsonFlat}
	}
	return &lines{kind: c.kind, newline: c.newline}
}

// Serializer writes events into one file. Each method appends to dst and
// returns it.
type Serializer interface {
	// Begin appends what a new file begins with; not called where one is resumed.
	Begin(dst []byte) []byte
	// Append appends events, in order, up to and including the one with which
	// the file has grown by limit bytes (0: all), and returns how many those
	// are, at least one. Some may be kept back until Flush.
	Append(dst []byte, events []core.Event, limit int64) ([]byte, int)
	// Flush appends what was kept back. After it the file may end, or be cut.
	Flush(dst []byte) []byte
	// State is what Resume needs to go on with this file after any later Flush.
	State() string
	// Resume makes a new serializer go on with a file that was cut after a
	// Flush. False: the state is of another format, the file must be left as it is.
	Resume(state string) bool
}
