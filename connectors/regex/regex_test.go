package regex

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// TestMain sets the time zone in which testdata/cases.txt was answered.
func TestMain(m *testing.M) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	time.Local = berlin
	os.Exit(m.Run())
}

var catalog = &core.Catalog{Interceptors: []core.Type[core.Interceptor]{Filter, Extractor, SearchReplace, RemoveHeader}}

// bind makes an interceptor as a configuration does: by any of its names.
func bind(keys map[string]string) (core.Interceptor, conf.Faults) {
	own := maps.Clone(keys)
	delete(own, "type")
	b, _, _, ok := catalog.Find(conf.KindInterceptor, keys["type"])
	if !ok {
		panic("no interceptor " + keys["type"])
	}
	maps.DeleteFunc(own, func(_, v string) bool { return v == "" })
	_, faults := conf.Bind(b, own)
	return b.(core.Interceptor), faults
}

func open(t testing.TB, keys map[string]string) (core.Interceptor, core.Env) {
	t.Helper()
	i, faults := bind(keys)
	if faults.HasErrors() {
		t.Fatal(keys, faults)
	}
	env := sourcetest.NewEnv(t, "src")
	if err := i.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	return i, env
}

// TestCases holds us against Flume's interceptors: testdata/cases.txt, whose form e2e/oracle/Interceptors.java has.
func TestCases(t *testing.T) {
	text, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := new(caseReader)
	for n, line := range strings.Split(string(text), "\n") {
		c.line(t, n+1, line)
	}
	c.settle(t)
	if c.checked < 80 {
		t.Errorf("only %d answers", c.checked)
	}
}

// caseReader goes through the lines: keys, then events, each with an answer of Flume's, and perhaps one of ours.
type caseReader struct {
	title   string
	keys    map[string]string
	built   core.Interceptor
	refused bool
	got     string // our answer to the last event; "" none
	at      int
	want    string
	checked int
}

func (c *caseReader) line(t *testing.T, n int, line string) {
	text := strings.TrimSpace(line)
	switch {
	case text == "" || text[0] == '#':
	case line[0] != ' ':
		c.settle(t)
		*c = caseReader{title: text, keys: map[string]string{}, checked: c.checked}
	case text[0] == '>':
		c.settle(t)
		c.build(t)
		c.at, c.got, c.want = n, c.answer(t, strings.TrimSpace(text[1:])), "no answer"
	case text[0] == '<' || text[0] == '!':
		if c.got == "" {
			c.build(t)
			c.at, c.got = n, "accepted"
		}
		c.want = strings.TrimSpace(text[1:])
		if c.refused {
			c.got = "refused"
		}
	default:
		k, v, _ := strings.Cut(text, " = ")
		c.keys[strings.TrimSuffix(k, " =")] = unescape(v)
	}
}

func (c *caseReader) build(t *testing.T) {
	if c.built == nil && !c.refused {
		if _, faults := bind(c.keys); faults.HasErrors() {
			c.refused = true
			return
		}
		c.built, _ = open(t, c.keys)
	}
}

func (c *caseReader) answer(t *testing.T, text string) string {
	if c.refused {
		return "refused"
	}
	before, body, _ := strings.Cut(" "+text+" ", "|")
	var kv []core.Header
	for h := range strings.SplitSeq(strings.TrimSpace(before), ",") {
		if k, v, ok := strings.Cut(h, "="); ok {
			kv = append(kv, core.Header{Key: k, Value: v})
		}
	}
	body = strings.TrimSuffix(strings.TrimPrefix(body, " "), " ")
	b := core.NewBatch()
	defer b.Release()
	for _, text := range []string{"before", unescape(body), "after"} { // the outer two are for the memory's sake
		b.Copy(core.NewHeaders(kv...), []byte(text))
	}
	middle := b.Slice(1, 2)
	defer middle.Release()
	if err := c.built.Intercept(middle); err != nil {
		t.Fatal(err)
	}
	if got := string(b.Events[0].Body) + string(b.Events[1].Body) + string(b.Events[2].Body); got != "before"+unescape(body)+"after" {
		t.Errorf("%s: the memory of the event has become %q", c.title, got)
	}
	if len(middle.Events) == 0 {
		return "dropped"
	}
	return shown(middle.Events[0])
}

// shown is an event as the file has it.
func shown(e core.Event) string {
	var list []string
	for k, v := range e.Headers.All() {
		list = append(list, k+"="+escape(v))
	}
	slices.Sort(list)
	return strings.TrimSpace(strings.Join(list, ",") + " | " + escape(string(e.Body)))
}

func (c *caseReader) settle(t *testing.T) {
	t.Helper()
	if c.got != "" && c.got != c.want {
		t.Errorf("cases.txt:%d: %s: %s, want %s", c.at, c.title, c.got, c.want)
	}
	if c.got != "" {
		c.checked++
	}
	c.got = ""
}

func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r > '~':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'u':
			r, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				panic(err)
			}
			b.WriteRune(rune(r))
			i += 4
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func TestFaults(t *testing.T) {
	const millis = "type=regex_extractor|regex=(a)|serializers=t|serializers.t.name=t|serializers.t.type=millis|"
	for keys, want := range map[string]string{
		"type=regex_filter|regex=(a":                                                                     `"(a" is not a Java regular expression: unclosed group, at character 3`,
		"type=regex_filter|regex=a\\X":                                                                   `\X is not supported`,
		"type=regex_filter|excludeEvents=yes":                                                            "only the word true is true",
		"type=regex_filter|matchTimeout=0":                                                               "must be at least 1",
		"type=search_replace|searchPattern=(a)|replaceString=$2":                                         `"$2" has $2, and the pattern has 1 groups`,
		"type=search_replace|searchPattern=a|charset=utf-99":                                             "charset",
		"type=remove_header":                                                                             "removes nothing",
		"type=remove_header|matching=[":                                                                  "is not a Java regular expression",
		millis + "serializers.t.pattern=yyyy-ww":                                                         `"yyyy-ww" is a date pattern with ww, which this version cannot read`,
		millis + "serializers.t.pattern=HH zzzz":                                                         "with zzzz",
		millis + "serializers.t.pattern=HH|serializers.u.name=u":                                         "serializers does not name u",
		millis + "serializers.t.pattern=HH|serializers.t.format=u":                                       "unknown key",
		"type=regex_extractor|regex=a|serializers=t|serializers.t.name=t":                                "names 1 and the pattern has 0 groups: t gets nothing",
		"type=regex_extractor|regex=(a)|serializers=t|serializers.t.name=t|serializers.t.pattern=HH":     "has no effect without type = millis",
		"type=regex_extractor|regex=(a)|serializers=t|serializers.t.name=t|serializers.t.type=hex":       `"hex" must be one of DEFAULT, millis`,
		"type=regex_extractor|regex=(a)|serializers=t|serializers.t.name=t|serializers.t.type=com.x.Hex": "there are no custom serializers here",
	} {
		props := make(map[string]string)
		for kv := range strings.SplitSeq(keys, "|") {
			if k, v, ok := strings.Cut(kv, "="); ok {
				props[k] = v
			}
		}
		_, faults := bind(props)
		if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("%s: %v", keys, faults)
		}
	}
}

// An event whose search takes too long passes as it is, counted, with every interceptor and either sense of the filter.
func TestTimeouts(t *testing.T) {
	const slow = `(?=a)(a|aa|aaa)+$`
	body := strings.Repeat("a", 60) + "b"
	for _, keys := range []map[string]string{
		{"type": "regex_filter", "regex": slow},
		{"type": "regex_filter", "regex": slow, "excludeEvents": "true"},
		{"type": "search_replace", "searchPattern": slow},
		{"type": "search_replace", "searchPattern": slow, "charset": "ISO-8859-1"},
		{"type": "regex_extractor", "regex": slow, "serializers": "s", "serializers.s.name": "n"},
		{"type": "remove_header", "matching": slow},
	} {
		keys["matchTimeout"] = "20"
		i, env := open(t, keys)
		b := core.NewBatch()
		b.Append(core.NewHeaders(core.Header{Key: body, Value: "v"}), []byte(body))
		if err := i.Intercept(b); err != nil {
			t.Fatal(err)
		}
		if len(b.Events) != 1 || string(b.Events[0].Body) != body || b.Events[0].Headers.Len() != 1 {
			t.Errorf("%v: %v", keys, b.Events)
		}
		if n := env.Metrics.Counter("regex_timeouts_total", "").Load(); n < 1 {
			t.Errorf("%v: %d counted", keys, n)
		}
		b.Release()
	}
}

// Other encodings are read and written; text that has no match keeps its bytes.
func TestReplaceCharset(t *testing.T) {
	i, _ := open(t, map[string]string{"type": "search_replace", "searchPattern": "é(.)", "replaceString": "è$1€", "charset": "ISO-8859-1"})
	b := core.NewBatch()
	defer b.Release()
	long := strings.Repeat("x", 100_000)
	for _, body := range []string{"caf\xe9s", "na\xefve", "\xe9\xe9" + long} {
		b.Copy(core.Headers{}, []byte(body))
	}
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"caf\xe8s?", "na\xefve", "\xe8\xe9?" + long} {
		if got := string(b.Events[n].Body); got != want {
			t.Errorf("got %.20q, want %.20q", got, want)
		}
	}
	if b.Size().Bytes != int64(6+5+100_003) {
		t.Error(b.Size())
	}
}

// The filter keeps the order, and the rest of a batch of many; bytes that are no text are.
func TestFilterBatch(t *testing.T) {
	i, _ := open(t, map[string]string{"type": "regex_filter", "regex": "[02468]$"})
	b := core.NewBatch()
	defer b.Release()
	for n := range 100 {
		b.Copy(core.Headers{}, []byte("\xff"+strconv.Itoa(n)))
	}
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	for n, e := range b.Events {
		if string(e.Body) != "\xff"+strconv.Itoa(2*n) {
			t.Errorf("%d: %q", n, e.Body)
		}
	}
	if len(b.Events) != 50 {
		t.Error(len(b.Events))
	}
}

// What is found in bytes that are no UTF-8 becomes text, as in Java; runs share their headers.
func TestExtractorHeaders(t *testing.T) {
	i, env := open(t, map[string]string{
		"type": "regex_extractor", "regex": `u=(\S+)(?: t=(\S+))?`, "serializers": "u t",
		"serializers.u.name": "user", "serializers.t.name": "at", "serializers.t.type": "millis", "serializers.t.pattern": "HH:mm",
	})
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(core.Header{Key: "file", Value: "f"})
	for _, body := range []string{"u=a 1", "u=a 2", "u=b\xff 3", "u=c t=noon", "none"} {
		b.Append(h, []byte(body))
	}
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	if b.Events[0].Headers != b.Events[1].Headers {
		t.Error("two events of one user do not share their headers")
	}
	for n, want := range []string{"a", "a", "b\ufffd", "c", ""} {
		if got := b.Events[n].Headers; got.Value("user") != want || got.Value("file") != "f" || got.Value("at") != "" {
			t.Errorf("%d: %v", n, got)
		}
	}
	if n := env.Metrics.Counter("serializer_failures_total", "").Load(); n != 1 {
		t.Errorf("%d failures", n)
	}
}

// remove_header is called once for a run, and leaves it one.
func TestRemoveHeaderRuns(t *testing.T) {
	i, _ := open(t, map[string]string{"type": "remove_header", "matching": "x-.*"})
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(core.Header{Key: "x-a", Value: "1"}, core.Header{Key: "b", Value: "2"})
	b.Append(h, nil)
	b.Append(h, nil)
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	if b.Events[0].Headers != b.Events[1].Headers || b.Events[0].Headers.Len() != 1 {
		t.Error(b.Events)
	}
}

// FuzzDate: no pattern and no text make it panic, and what it reads is within sense.
func FuzzDate(f *testing.F) {
	for _, s := range [][2]string{
		{"yyyy-MM-dd HH:mm:ss,SSS Z", "2012-10-17 14:34:44,338 +0200"}, {"yyMMdd", "121017"}, {"EEE DDD K a", "Mon 100 3 PM"}, {"'x'''", "x'"},
	} {
		f.Add(s[0], s[1])
	}
	now := time.Unix(1.7e9, 0)
	f.Fuzz(func(t *testing.T, pattern, text string) {
		d, err := parseDatePattern(pattern)
		if err != nil {
			return
		}
		if _, err := d.parse(text, time.UTC, now); err == nil && text == "" && d.fields[0].letter != 0 {
			t.Errorf("%q reads nothing", pattern)
		}
	})
}

const accessLine = `10.0.0.99 - - [17/Oct/2012:14:34:44 +0000] "GET /index.html HTTP/1.1" 200 512`

func BenchmarkInterceptors(b *testing.B) {
	for name, keys := range map[string]map[string]string{
		"filter-keeps":      {"type": "regex_filter", "regex": `" [23]\d\d `},
		"filter-lookaround": {"type": "regex_filter", "regex": `" (?!5)\d\d\d `},
		"replace-no-match":  {"type": "search_replace", "searchPattern": `password=\S+`},
		"replace":           {"type": "search_replace", "searchPattern": `\d+\.\d+$|^\d+\.\d+\.\d+`, "replaceString": "x"},
		"extract":           {"type": "regex_extractor", "regex": `^(\S+) .*" (\d+)`, "serializers": "a b", "serializers.a.name": "ip", "serializers.b.name": "code"},
		"extract-millis":    {"type": "regex_extractor", "regex": `\[([^\]]+)`, "serializers": "a", "serializers.a.name": "timestamp", "serializers.a.type": "millis", "serializers.a.pattern": "dd/MMM/yyyy:HH:mm:ss Z"},
		"extract-no-match":  {"type": "regex_extractor", "regex": `user=(\S+)`, "serializers": "a", "serializers.a.name": "user"},
		"remove":            {"type": "remove_header", "matching": "x-.*"},
	} {
		b.Run(name, func(b *testing.B) {
			i, _ := open(b, keys)
			line := []byte(accessLine)
			h := core.NewHeaders(core.Header{Key: "file", Value: "/var/log/a.log"}, core.Header{Key: "x-a", Value: "1"})
			b.SetBytes(1000 * int64(len(accessLine)))
			b.ReportAllocs() // of a batch of 1000 events
			for b.Loop() {
				batch := core.NewBatch()
				for range 1000 {
					batch.Append(h, line)
				}
				if err := i.Intercept(batch); err != nil {
					b.Fatal(err)
				}
				batch.Release()
			}
		})
	}
}
