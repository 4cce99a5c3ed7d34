package json

import (
	"bufio"
	"context"
	stdjson "encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

func open(t testing.TB, keys map[string]string) (*interceptor, core.Env) {
	t.Helper()
	i := Interceptor.New().(*interceptor)
	if _, faults := conf.Bind(i, keys); len(faults) > 0 {
		t.Fatal(keys, faults)
	}
	env := sourcetest.NewEnv(t, "src")
	if err := i.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	return i, env
}

// TestCases runs testdata/cases.txt: a title, keys, then bodies, each with the event behind it: headers separated by
// blanks, or "dropped". All events have the header old=1.
func TestCases(t *testing.T) {
	f, err := os.Open("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	title, body, checked := "", "", 0
	keys := make(map[string]string)
	var i *interceptor
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
		case s.Text()[0] != ' ':
			title, i = line, nil
			clear(keys)
		case line[0] == '>':
			if i == nil {
				i, _ = open(t, keys)
			}
			body = strings.TrimPrefix(line[1:], " ")
		case line[0] == '<':
			checked++
			want := strings.TrimSpace(line[1:])
			if got := answer(t, i, body); got != want {
				t.Errorf("%s: %s: got %s, want %s", title, body, got, want)
			}
		default:
			k, v, _ := strings.Cut(line, " = ")
			keys[k] = v
		}
	}
	if checked < 30 {
		t.Errorf("only %d cases", checked)
	}
}

func answer(t *testing.T, i *interceptor, body string) string {
	t.Helper()
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(core.Header{Key: "old", Value: "1"})
	body = strings.NewReplacer("<depth>", strings.Repeat(`{"a":`, 150), "<bom>", "\ufeff", "<ff>", "\xff").Replace(body)
	b.Append(h, []byte(`{"other":true}`))
	b.Append(h, []byte(body))
	b.Append(h, []byte(`{"other":true}`))
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	if len(b.Events) < 3 {
		return "dropped"
	}
	if string(b.Events[1].Body) != body {
		t.Errorf("the body has become %q", b.Events[1].Body)
	}
	var list []string
	for k, v := range b.Events[1].Headers.All() {
		list = append(list, k+"="+strings.ReplaceAll(v, "\n", `\n`))
	}
	return strings.Join(list, " ")
}

func TestFaults(t *testing.T) {
	for _, c := range [][3]string{
		{"fields", "a =b", `"=b" has no name`},
		{"fields", "a=", `"a=" has no name`},
		{"fields", "a.b a", "names a and a field in it"},
		{"fields", "a a=b", "names a twice"},
		{"onError", "fail", "must be one of pass, mark, drop"},
	} {
		_, faults := conf.Bind(Interceptor.New(), map[string]string{c[0]: c[1]})
		if len(faults) != 1 || !strings.Contains(faults[0].String(), c[2]) {
			t.Errorf("%v: %v", c, faults)
		}
	}
}

// Failures are counted; runs share their headers; what is dropped is only what is bad.
func TestBatch(t *testing.T) {
	i, env := open(t, map[string]string{"fields": "level", "onError": "drop"})
	b := core.NewBatch()
	defer b.Release()
	bodies := []string{"bad", `{"level":"info","n":1}`, `{"level":"info","n":2}`, "bad", "{", `{"level":"warn"}`, "bad"}
	for _, body := range bodies {
		b.Append(core.Headers{}, []byte(body))
	}
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range b.Events {
		left = append(left, string(e.Body)+e.Headers.Value("level"))
	}
	if want := []string{bodies[1] + "info", bodies[2] + "info", bodies[5] + "warn"}; !slices.Equal(left, want) {
		t.Error(left)
	}
	if b.Events[0].Headers != b.Events[1].Headers {
		t.Error("two events of one level do not share their headers")
	}
	if n := env.Metrics.Counter("json_failures_total", "").Load(); n != 4 {
		t.Errorf("%d failures counted", n)
	}
}

// A body of very many fields makes no more headers than the limit.
func TestManyFields(t *testing.T) {
	i, _ := open(t, nil)
	b := core.NewBatch()
	defer b.Release()
	fields := make(map[string]int)
	for n := range 1000 {
		fields[strings.Repeat("x", n+1)] = n
	}
	body, err := stdjson.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	b.Append(core.Headers{}, body)
	if err := i.Intercept(b); err != nil || b.Events[0].Headers.Len() != maxHeaders {
		t.Error(b.Events[0].Headers.Len(), err)
	}
}

// FuzzBody compares with encoding/json: what is an object, and the text of its top fields.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"a":"b","n":1.50,"t":true,"z":null,"o":{"p.q":"\ud83d\ude00"},"l":[1]}`, `{"a":1}x`, "[]", "", `{"a":"\ud800"}`, "{\"a\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	i, _ := open(f, map[string]string{"fields": "a", "onError": "mark"})
	all, _ := open(f, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, x := range []*interceptor{i, all} {
			b := core.NewBatch()
			defer b.Release()
			b.Append(core.Headers{}, body)
			if err := x.Intercept(b); err != nil {
				t.Fatal(err)
			}
			for k, v := range b.Events[0].Headers.All() {
				if !utf8.ValidString(k) || !utf8.ValidString(v) {
					t.Errorf("%q=%q", k, v)
				}
			}
			if x == all {
				continue
			}
			_, failed := b.Events[0].Headers.Get(errorHeader)
			var oracle map[string]any
			standard := stdjson.Unmarshal(body, &oracle)
			if failed != (standard != nil || oracle == nil) && utf8.Valid(body) && !strings.HasPrefix(string(body), "\ufeff") && !deep(body) {
				t.Errorf("%q: failed %v, encoding/json: %v", body, failed, standard)
			}
			if text, ok := oracle["a"].(string); ok && standard == nil && !failed && utf8.Valid(body) && b.Events[0].Headers.Value("a") != text {
				t.Errorf("%q: %q, encoding/json has %q", body, b.Events[0].Headers.Value("a"), text)
			}
		}
	})
}

func deep(body []byte) bool {
	return strings.Count(string(body), "{")+strings.Count(string(body), "[") >= maxDepth
}

func BenchmarkInterceptor(b *testing.B) {
	body := []byte(`{"time":"2012-10-17T14:34:44Z","level":"info","msg":"request served","user":{"id":4711,"name":"eve"},"tags":["a","b"],"ms":12.5}`)
	for name, keys := range map[string]map[string]string{
		"all": nil, "two": {"fields": "level user.id=uid"}, "none": {"fields": "missing"},
	} {
		b.Run(name, func(b *testing.B) {
			i, _ := open(b, keys)
			h := core.NewHeaders(core.Header{Key: "file", Value: "/var/log/a.log"})
			b.SetBytes(1000 * int64(len(body)))
			b.ReportAllocs() // of a batch of 1000 events that are alike
			for b.Loop() {
				batch := core.NewBatch()
				for range 1000 {
					batch.Append(h, body)
				}
				if err := i.Intercept(batch); err != nil {
					b.Fatal(err)
				}
				batch.Release()
			}
		})
	}
}
