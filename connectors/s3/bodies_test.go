package s3

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core/sinktest"
)

// send delivers events "schema body"; a dash: no schema.
func send(in *sinktest.Instance, events ...string) *sinktest.Loose {
	tx := &sinktest.Loose{Events: formattest.Bodies(events...)}
	in.Sink.Deliver(context.Background(), tx)
	return tx
}

// unzip reads all members.
func unzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// Events of two schemas in turn are in an object each, which goes on after a
// kill; what fits no schema is refused by itself.
func TestObjectForEachSchema(t *testing.T) {
	a, b := `{"type":"fixed","name":"A","size":30}`, `{"type":"fixed","name":"B","size":40}`
	body := func(name string, size int) string { return strings.Repeat(name, size)[:size] }
	for _, kv := range []string{
		"serializer=org.apache.flume.sink.hdfs.AvroEventSerializer$Builder",
		"serializer=avro fileType=CompressedStream codeC=gzip",
		"serializer=avro rollCount=3", // and begins another one after the kill
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig()
			in := r.open(t, kv)
			first := send(in, a+" "+body("a0", 30), b+" "+body("b0", 40), "- x", a+" "+body("a1", 30), a+" short", b+" "+body("b1", 40))
			flush(t, in)
			synctest.Wait()
			r = kill(r, in)
			in = r.open(t, kv)
			send(in, b+" "+body("b2", 40), a+" "+body("a2", 30), b+" "+body("b3", 40), a+" "+body("a3", 30))
			flush(t, in)
			none := send(in, "- y")
			in.Close()
			if !slices.Equal(first.Refused, []int{2, 4}) || len(first.Acked) != 4 || !slices.Equal(none.Refused, []int{0}) {
				t.Errorf("%s: refused %v %v, acked %v", kv, first.Refused, none.Refused, first.Acked)
			}
			if len(r.keys()) != 2 && !strings.Contains(kv, "rollCount") {
				t.Errorf("%s: %q", kv, r.keys())
			}
			got := map[string][]string{}
			for _, k := range r.keys() {
				content := r.content(k)
				if strings.HasSuffix(k, ".gz") {
					var err error
					if content, err = unzip(content); err != nil {
						t.Fatalf("%s %s: %v", kv, k, err)
					}
				}
				f, err := formattest.DecodeBodies(content)
				if err != nil {
					t.Fatalf("%s %s: %v", kv, k, err)
				}
				got[f.Meta["avro.schema"]] = append(got[f.Meta["avro.schema"]], f.Bodies...)
			}
			want := map[string][]string{}
			for i := range 4 {
				n := string(rune('0' + i))
				want[a], want[b] = append(want[a], body("a"+n, 30)), append(want[b], body("b"+n, 40))
			}
			if !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("%s: %q", kv, got)
			}
			r.idle(t)
		})
	}
}
