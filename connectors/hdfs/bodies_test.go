package hdfs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// Bodies that are Avro data: the serializer that Flume has for them.
const bodies = "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder"

// schema is one for bodies of so many bytes.
func schema(name string, size int) string {
	return fmt.Sprintf(`{"type":"fixed","name":%q,"size":%d}`, name, size)
}

// files reads all files: by schema, the bodies in the order of the files' beginnings.
func files(t *testing.T, f *fake) (by map[string][]string, n int) {
	t.Helper()
	by = map[string][]string{}
	for _, p := range f.paths() {
		if f.files[p].writer != nil || strings.HasPrefix(p, "/s/") {
			continue
		}
		file, err := formattest.DecodeBodies(f.content(p))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		by[file.Meta["avro.schema"]] = append(by[file.Meta["avro.schema"]], file.Bodies...)
		n++
	}
	return by, n
}

// send delivers events "schema body"; a dash: no schema.
func send(in *sinktest.Instance, events ...string) *sinktest.Loose {
	tx := &sinktest.Loose{Events: formattest.Bodies(events...)}
	in.Sink.Deliver(context.Background(), tx)
	return tx
}

// Events of two schemas in turn are in two files, in one directory, and what
// fits no schema is refused by itself.
func TestFileForEachSchema(t *testing.T) {
	f := newFake()
	in := open(t, f, map[string]string{"serializer": bodies, "serializer.compressionCodec": "deflate"})
	a, b := schema("A", 2), schema("B", 3)
	tx := send(in, a+" a0", b+" b_0", "- x", a+" a1", a+" too long", b+" b_1")
	flush(t, in) // they are gone on with after this
	more := send(in, b+" b_2", a+" a2", "- y")
	none := send(in, "- z")
	in.Close()
	got, n := files(t, f)
	want := map[string][]string{a: {"a0", "a1", "a2"}, b: {"b_0", "b_1", "b_2"}}
	if n != 2 || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%d files: %q", n, got)
	}
	if slices.Sort(tx.Acked); !slices.Equal(tx.Refused, []int{2, 4}) || !slices.Equal(tx.Acked, []int32{0, 1, 3, 5}) {
		t.Errorf("refused %v, acked %v", tx.Refused, tx.Acked)
	}
	if !slices.Equal(more.Refused, []int{2}) || !slices.Equal(none.Refused, []int{0}) || len(none.Acked) > 0 {
		t.Errorf("refused %v %v", more.Refused, none.Refused)
	}
	if n := len(f.unfinished()); n > 0 {
		t.Errorf("%q", f.unfinished())
	}
}

// A schema in HDFS that cannot be read now is waited for; the events go back.
func TestSchemaInHDFS(t *testing.T) {
	f := newFake()
	w, err := f.Create("/s/schema.avsc")
	if err == nil {
		err = w.Write([]byte(schema("E", 25)))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := open(t, f, map[string]string{"serializer": bodies, "serializer.schemaURL": "hdfs:///s/schema.avsc"})
	f.set(func() { f.fails["read"] = 1 })
	if _, rolled, ended := in.Deliver(suite.Bodies(0, 5)).Acked(); !ended || rolled == nil || !strings.Contains(rolled.Error(), errFake.Error()) {
		t.Errorf("not rolled back: %v", rolled)
	}
	in.Deliver(suite.Bodies(0, 5))
	in.Deliver(suite.Bodies(5, 5))
	in.Close()
	got, _ := files(t, f)
	if !slices.Equal(got[schema("E", 25)], suite.Bodies(0, 10)) || f.calls["read"] != 2 {
		t.Errorf("%q, read %d times", got, f.calls["read"])
	}
}

// Through failures and starts each event is in a file once, with its schema.
func TestBodiesFail(t *testing.T) {
	for _, call := range []string{"create", "write", "close", "append"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.short, f.locks = true, 2
			keys := map[string]string{"serializer": "avro", "hdfs.rollCount": "7"}
			in := open(t, f, keys)
			a, b := schema("A", 4), schema("B", 4)
			var todo []string
			want := map[string][]string{}
			for i := range 40 {
				s := []string{a, b}[i/2%2]
				body := fmt.Sprintf("b%03d", i)
				todo = append(todo, s+" "+body)
				want[s] = append(want[s], body)
			}
			send(in, todo[:20]...)
			flush(t, in)
			f.set(func() { f.fails[call] = 2 })
			for left, try := todo[20:], 0; len(left) > 0; try++ {
				if try > 10 {
					t.Fatal("it does not go on")
				}
				tx := send(in, left...)
				_ = in.Sink.Flush(context.Background()) // what failed is in tx
				if len(tx.Refused) > 0 {
					t.Fatalf("refused %v", tx.Refused)
				}
				var rest []string
				for i, e := range left {
					if !slices.Contains(tx.Acked, int32(i)) {
						rest = append(rest, e)
					}
				}
				left = rest
			}
			time.Sleep(10 * time.Minute) // of the bubble: what is left over is seen to
			in.Close()
			got, _ := files(t, f)
			for s := range got {
				slices.Sort(got[s])
			}
			if !maps.EqualFunc(got, want, slices.Equal) || len(f.unfinished()) > 0 {
				t.Errorf("%s: %q, in use %q", call, got, f.unfinished())
			}
		})
	}
}
