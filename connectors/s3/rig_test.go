package s3

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/vfs"
)

const start = 1382534100000

// rig is what a sink in a test has: a store, a disk, small parts.
type rig struct {
	*fake
	mem  *vfs.Mem
	disk *vfs.Fault
	part int64
}

func newRig() *rig {
	mem := withSchema(vfs.NewMem(), 25)
	return &rig{newFake(), mem, vfs.NewFault(mem), 64}
}

// withSchema is disk with what serializer=avro is told: the schema of bodies of
// that size. Those of suite.Bodies have 25 bytes.
func withSchema(disk *vfs.Mem, size int) *vfs.Mem {
	text := fmt.Sprintf(`{"type":"fixed","name":"E","size":%d}`, size)
	if err := vfs.WriteFile(disk, "/schema.avsc", []byte(text), 0o644); err != nil {
		panic(err) // memory does not fail
	}
	return disk
}

// small is a sink with parts that no store would take.
type small struct {
	sink
	part int64
}

func (s *small) Open(ctx context.Context, env core.Env) error {
	s.partSize = s.part
	return s.sink.Open(ctx, env)
}

func (r *rig) newSink() core.Sink {
	s := &small{part: r.part}
	s.client = r.fake
	return s
}

// settings are those of every test; kv, "name=value" without s3., go before.
func settings(kv string) map[string]string {
	all := map[string]string{
		"s3.path": "e", "s3.bucket": "b", "s3.endpoint": "http://store", "s3.timeZone": "UTC", "s3.spoolDirectory": "/spool",
		"s3.accessKeyId": "id", "s3.secretAccessKey": "secret",
		"s3.rollCount": "0", "s3.rollSize": "0", "s3.rollInterval": "0", "s3.commitInterval": "0",
	}
	for _, s := range strings.Fields(kv) {
		k, v, _ := strings.Cut(s, "=")
		if strings.HasPrefix(k, "serializer") {
			all[k] = v
			if v == "avro" {
				all["serializer.schemaURL"] = "file:///schema.avsc"
			}
			continue
		}
		all["s3."+k] = v
	}
	return all
}

func (r *rig) subject(kv string, marks map[string]core.Mark) sinktest.Subject {
	return sinktest.Subject{New: r.newSink, Backend: func(testing.TB) sinktest.Backend {
		return sinktest.Backend{
			Keys: settings(kv), Seen: r.seen,
			Prepare: func(env *core.Env) {
				env.FS = r.disk
				env.Now = func() time.Time { return time.UnixMilli(start) }
				env.Marks = marks
			},
			Break: func() { r.disk.Add(vfs.Rule{Times: -1}) },
			Heal:  r.disk.Clear,
		}
	}}
}

func (r *rig) open(t testing.TB, kv string, marks ...core.Mark) *sinktest.Instance {
	t.Helper()
	all := map[string]core.Mark{}
	for _, m := range marks {
		if m.Pos < 0 {
			delete(all, m.Stream)
		} else {
			all[m.Stream] = m
		}
	}
	return sinktest.Open(t, r.subject(kv, all))
}

// crashed is r after the process was killed: what was written is there.
func (r *rig) crashed() *rig {
	return &rig{r.fake, r.mem, vfs.NewFault(r.mem), r.part}
}

// seen are the lines that are safe: in objects, in parts of those that are
// begun, in the spool. In order.
func (r *rig) seen() []string {
	type text struct {
		seq int64
		b   []byte
	}
	var all []text
	for _, k := range r.keys() {
		all = append(all, text{number(k), r.content(k)})
	}
	list, _ := r.mem.ReadDir("/spool") // there is none before Open
	for _, e := range list {
		name, kind, _ := strings.Cut(e.Name(), ".")
		seq, err := strconv.ParseInt(name, 10, 64)
		if err != nil || kind != "state" || slices.ContainsFunc(all, func(x text) bool { return x.seq == seq }) {
			continue
		}
		data, _ := vfs.ReadFile(r.mem, filepath.Join("/spool", e.Name()))
		st, err := unseal(data)
		if err != nil {
			continue
		}
		all = append(all, text{seq, r.begunBytes(&st)})
	}
	slices.SortFunc(all, func(a, b text) int { return cmp.Compare(a.seq, b.seq) })
	var bodies []string
	for _, x := range all {
		bodies = append(bodies, lines(x.b)...)
	}
	return bodies
}

// begunBytes is what is safe of an object that is not published.
func (r *rig) begunBytes(st *state) []byte {
	var b bytes.Buffer
	for n := 0; n <= st.parts(); n++ {
		data, err := vfs.ReadFile(r.mem, fmt.Sprintf("/spool/%d.%d", st.seq, n))
		if err != nil {
			r.set(func() {
				for _, up := range r.uploads {
					if up.key == st.key {
						data = up.parts[n+1]
					}
				}
			})
		}
		b.Write(data)
	}
	return b.Bytes()[:min(int64(b.Len()), st.length)]
}

// files are the names in the spool, but for those that always are.
func (r *rig) files() (names []string) {
	list, _ := r.mem.ReadDir("/spool")
	for _, e := range list {
		if n := e.Name(); n != "id" && n != "lock" {
			names = append(names, n)
		}
	}
	return names
}

// short is a key without the id of its spool.
func short(key string) string {
	at := strings.LastIndexByte(key, '-')
	return key[:at] + key[at+9:]
}

// expect checks all objects: "key line line".
func (r *rig) expect(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	for _, k := range r.keys() {
		got = append(got, short(k)+" "+strings.Join(lines(r.content(k)), " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// idle checks that nothing is left behind.
func (r *rig) idle(t testing.TB) {
	t.Helper()
	if f := r.files(); len(f) > 0 {
		t.Errorf("left in the spool: %q", f)
	}
	r.set(func() {
		if n := len(r.uploads); n > 0 {
			t.Errorf("%d uploads are left: %v", n, slices.Collect(maps.Keys(r.uploads)))
		}
	})
}

func flush(t testing.TB, in *sinktest.Instance) {
	t.Helper()
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func bind(kv string) (*sink, conf.Faults) {
	s := new(sink)
	_, faults := conf.Bind(s, settings(kv))
	return s, faults
}
