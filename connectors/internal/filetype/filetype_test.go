package filetype

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

type keys struct{ Config }

func (c *keys) Keys(k *conf.Keys) { c.Config.Keys(k, "x.", SequenceFile) }

func bind(t *testing.T, kv string) *Config {
	t.Helper()
	given := map[string]string{}
	for _, s := range strings.Fields(kv) {
		k, v, _ := strings.Cut(s, "=")
		given[k] = v
	}
	c := new(keys)
	if _, faults := conf.Bind(c, given); faults.HasErrors() {
		t.Fatal(faults)
	}
	return &c.Config
}

func events(from, n int) (list []core.Event) {
	for i := range n {
		list = append(list, core.Event{Headers: core.NewHeaders(core.Header{Key: "timestamp", Value: "1"}), Body: bytes.Repeat([]byte{byte('a' + from + i)}, 30)})
	}
	return list
}

// schemaOf is that of events, where there is one.
func schemaOf(t *testing.T, c *Config) *format.BodySchema {
	t.Helper()
	env := sourcetest.NewEnv(t, "k")
	env.FS = vfs.NewMem()
	c.Open(env, nil)
	list := events(0, 1)
	list[0].Headers = core.NewHeaders(core.Header{Key: "flume.avro.schema.literal", Value: `{"type":"fixed","name":"E","size":30}`})
	p, err := c.Prepare(t.Context(), list)
	if err != nil || p.Refused(0) != nil {
		t.Fatal(err, p.Refused(0))
	}
	return p.Schema(0)
}

// A SequenceFile has no serializer: what it would need of events is not asked for.
func TestSequenceFileNeedsNoSchema(t *testing.T) {
	c := bind(t, "serializer=avro")
	c.Open(sourcetest.NewEnv(t, "k"), nil)
	if p, err := c.Prepare(t.Context(), events(0, 1)); err != nil || p.Refused(0) != nil || p.Schema(0) != nil {
		t.Error(err, p.Refused(0))
	}
}

// A file that was cut after a Flush and gone on with by another encoder has the
// bytes of one that was not; a state of another file type is refused.
func TestResume(t *testing.T) {
	all := []string{
		"", "x.writeFormat=Text", "x.codeC=gzip", "x.codeC=snappy x.writeFormat=Text", "x.fileType=DataStream", "x.fileType=DataStream serializer=json",
		"x.fileType=DataStream serializer=avro_event", "x.fileType=CompressedStream x.codeC=zstd", "x.fileType=CompressedStream x.codeC=lz4 serializer=avro_event",
		"x.fileType=DataStream serializer=avro", "x.fileType=CompressedStream x.codeC=gzip serializer=avro",
	}
	now := func() time.Time { return time.UnixMilli(1) }
	for _, kv := range all {
		c := bind(t, kv)
		one := c.New(now, schemaOf(t, c))
		state := one.State()
		head := one.Flush(one.Append(one.Begin(nil), events(0, 5)))
		want := one.Flush(one.Append(bytes.Clone(head), events(5, 5)))
		two := c.New(now, nil)
		if !two.Resume(state) || two.State() != state {
			t.Fatalf("%s: does not resume %q", kv, state)
		}
		if got := two.Flush(two.Append(head, events(5, 5))); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d", kv, len(got), len(want))
		}
		for _, other := range all {
			if other != kv && bind(t, other).New(now, nil).Resume(state) {
				t.Errorf("%q goes on with a file of %q", other, kv)
			}
		}
		for _, bad := range []string{"", "x", state + "0"} {
			if c.New(now, nil).Resume(bad) {
				t.Errorf("%s resumes %q", kv, bad)
			}
		}
	}
}
