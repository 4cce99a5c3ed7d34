package format

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/avroschema"
	"github.com/millrace/millrace/core"
)

// Headers that name the schema of an event whose body is an Avro datum. Source:
// Flume's AvroEventSerializer.
const (
	headerURL     = "flume.avro.schema.url"
	headerLiteral = "flume.avro.schema.literal"
	headerHash    = "flume.avro.schema.hash"
)

const (
	maxBodySchema = 1 << 20          // bytes of a schema's text
	maxKnown      = 256              // schemas that are remembered
	maxKnownBytes = 16 << 20         // of what they are remembered by, and their texts
	freshFor      = 5 * time.Minute  // what a URL gave
	failedFor     = 30 * time.Second // what it did not
)

// BodySchema is the Avro schema of the records in a file of AVRO.
type BodySchema struct {
	ID     string // 16 hex digits that tell it from others, in every process
	text   string // JSON without blanks
	values *avroschema.Schema
}

// parseBodySchema makes one of JSON. Errors show something of the text.
func parseBodySchema(text string) (*BodySchema, error) {
	if len(text) > maxBodySchema {
		return nil, fmt.Errorf("schema of %d bytes is longer than %d", len(text), maxBodySchema)
	}
	values, literal, err := avroschema.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(literal))
	return &BodySchema{hex.EncodeToString(sum[:8]), literal, values}, nil
}

// check says why body cannot be a record: then no reader could read what comes
// behind it in its block.
func (s *BodySchema) check(body []byte) error {
	n, err := s.values.Skip(body)
	if err == nil && n < len(body) {
		err = fmt.Errorf("%d of its %d bytes are behind the value", len(body)-n, len(body))
	}
	if err != nil {
		return fmt.Errorf("body is not a value of its Avro schema: %w", err)
	}
	return nil
}

// Prepared is what there is to know of a batch before it is written.
type Prepared struct {
	schemas []*BodySchema
	refused core.EventErrors
}

// Schema is that of event i; nil where the serializer needs none.
func (p *Prepared) Schema(i int) *BodySchema {
	if p.schemas == nil {
		return nil
	}
	return p.schemas[i]
}

// Refused says why event i can never be written; nil: it can.
func (p *Prepared) Refused(i int) error { return p.refused[i] }

// Run returns where the events end that begin at from and go into the same file;
// n is how many there are.
func (p *Prepared) Run(from, n int) int {
	if p.schemas == nil {
		return n
	}
	to := from + 1
	for to < n && p.refused[to] == nil && p.schemas[to].ID == p.schemas[from].ID {
		to++
	}
	return to
}

// Prepare finds the schemas of events, and those that can never be written. An
// error is temporary: a schema could not be fetched. It may take seconds.
func (c *Config) Prepare(ctx context.Context, events []core.Event) (p Prepared, err error) {
	if c.kind != avroBody {
		return p, nil
	}
	p.schemas, p.refused = make([]*BodySchema, len(events)), core.EventErrors{}
	var schema *BodySchema
	for i := range events {
		e := &events[i]
		if i == 0 || e.Headers != events[i-1].Headers {
			schema, err = c.schemas.of(ctx, e.Headers)
			if err != nil && !core.IsPermanent(err) {
				return p, err
			}
		}
		why := err
		if why == nil {
			why = schema.check(e.Body)
		}
		if why != nil {
			p.refused[i] = why
			continue
		}
		p.schemas[i] = schema
	}
	return p, nil
}

// Fits reports whether events of a schema may go on in a file whose serializer
// had that state.
func (c *Config) Fits(state string, schema *BodySchema) bool { return c.New(schema).Resume(state) }

// Open makes c ready for Prepare. hdfs reads a file of HDFS, up to limit bytes;
// nil: no hdfs: URL can be read.
func (c *Config) Open(env core.Env, hdfs ReadHDFS) {
	if c.kind == avroBody {
		c.schemas = &schemas{fetch: newFetcher(env, hdfs), env: env, url: c.url, known: map[string]*finding{}}
	}
}

// schemas finds schemas and remembers them.
type schemas struct {
	fetch *fetcher
	env   core.Env
	url   string // of events that name none

	mu    sync.Mutex // held while one is fetched: the next would want the same
	known map[string]*finding
	bytes int // of the keys and texts in known
}

// finding is what came of a URL or a literal.
type finding struct {
	schema *BodySchema
	err    error     // a lasting one; nil: schema is set
	until  time.Time // zero: for ever
}

// of returns the schema of an event. A permanent error: the event has none.
func (s *schemas) of(ctx context.Context, h core.Headers) (*BodySchema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if url, ok := h.Get(headerURL); ok {
		schema, err := s.at(ctx, url)
		return schema, wrap(headerURL, err)
	}
	if text, ok := h.Get(headerLiteral); ok {
		schema, err := s.literal(text)
		return schema, wrap(headerLiteral, err)
	}
	if s.url != "" {
		schema, err := s.at(ctx, s.url)
		if err != nil { // temporary whatever it is: a fault of the configuration must cost no event
			return nil, fmt.Errorf("serializer.schemaURL: %v", err) //nolint:errorlint // not permanent
		}
		return schema, nil
	}
	if _, ok := h.Get(headerHash); ok {
		return nil, errHash
	}
	return nil, errNone
}

var (
	errNone = core.PermanentError(errors.New("event has no Avro schema: set its header " + headerURL + " or " + headerLiteral + ", or serializer.schemaURL"))
	errHash = core.PermanentError(errors.New("event has no Avro schema but its hash: set deserializer.schemaType = LITERAL where it is read, or serializer.schemaURL"))
)

func wrap(header string, err error) error {
	if err != nil {
		return fmt.Errorf("header %s: %w", header, err)
	}
	return nil
}

func (s *schemas) literal(text string) (*BodySchema, error) {
	if len(text) > maxBodySchema { // not worth remembering
		return nil, core.PermanentError(fmt.Errorf("%d bytes are longer than %d", len(text), maxBodySchema))
	}
	key := "literal " + text
	if f := s.known[key]; f != nil {
		return f.schema, f.err
	}
	schema, err := parseBodySchema(text)
	err = core.PermanentError(err)
	s.remember(key, &finding{schema: schema, err: err})
	return schema, err
}

// at returns the schema at a URL. One that was there stays good when the URL
// fails: the events are as they were.
func (s *schemas) at(ctx context.Context, url string) (*BodySchema, error) {
	key, now := "url "+url, s.env.Now()
	old := s.known[key]
	if old != nil && now.Before(old.until) {
		return old.schema, old.err
	}
	schema, err := s.fetch.schema(ctx, url)
	switch {
	case err == nil:
		s.remember(key, &finding{schema: schema, until: now.Add(freshFor)})
	case old != nil && old.schema != nil:
		s.env.Log.Warn("Avro schema cannot be fetched again, going on with the last one", "error", err)
		old.until = now.Add(failedFor)
		return old.schema, nil
	case core.IsPermanent(err):
		s.remember(key, &finding{err: err, until: now.Add(failedFor)})
	}
	return schema, err
}

// remember forgets all when it is too much: what is needed comes again.
func (s *schemas) remember(key string, f *finding) {
	size := len(key)
	if f.schema != nil {
		size += len(f.schema.text)
	}
	if len(s.known) >= maxKnown || s.bytes+size > maxKnownBytes {
		clear(s.known)
		s.bytes = 0
	}
	s.known[key] = f
	s.bytes += size
}
