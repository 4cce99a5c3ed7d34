package conf_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/millrace/millrace/core/conf"
	"pgregory.net/rapid"
)

// all has a key of every type, with every rule.
type all struct {
	flag           bool
	n, batch       int
	long           int64
	ratio          float64
	text, pass     string
	wait, roll     time.Duration
	size           int64
	words, commas  []string
	re             *regexp.Regexp
	below, special map[string]string
	charset        string
}

func (a *all) Keys(k *conf.Keys) {
	k.Bool(&a.flag, "flag", true, "A flag.")
	k.Int(&a.n, "n", 5, "A number.").Must(conf.Range(1, 9)).OrDefault().Since("1.2")
	k.Batch(&a.batch, "batchSize", 100, "Events of a batch.")
	k.Int64(&a.long, "long", 7, "A long.").Must(conf.Max(1e15))
	k.Float64(&a.ratio, "ratio", 0.5, "A ratio.").Must(conf.Min(0.25))
	k.String(&a.text, "text", "Never", "When | how.").Must(conf.OneOf("Never", "Always")).Alias("txt", "t")
	k.String(&a.pass, "pass", "changeit", "Opens it.").Secret().Must(conf.That("longer", func(s string) bool { return len(s) > 4 }))
	k.Millis(&a.wait, "wait", 1500*time.Millisecond, "A wait.").Must(conf.Min(0))
	k.Seconds(&a.roll, "roll", 30*time.Second, "An age.").Deprecated("wait")
	k.Bytes(&a.size, "size", 1024, "A size.")
	k.Words(&a.words, "words", "Some words.").Must(conf.OneOf("Red", "Blue"))
	a.commas = []string{"x", "y"}
	k.Commas(&a.commas, "commas", "Some more.").Must(conf.NotEmpty())
	k.Regexp(&a.re, "re", "^a", "A pattern.")
	k.Map(&a.below, "below.", "Whatever.")
	k.Map(&a.special, "below.special.", "Special.").As("below.special.<thing>").Must(conf.OneOf("yes", "no"))
	k.Func("charset", "charset", "UTF-8", "A charset.", func(text string) error {
		if text != "latin1" {
			return errors.New("is not a charset")
		}
		a.charset = text
		return nil
	})
	k.Inert("old.", "It was for Java.")
	k.Check(func(r *conf.Report) {
		if a.n > 8 && r.IsSet("pass") {
			r.Error("n", "%d is too many for %s", a.n, a.pass)
		}
		if a.batch == 1 {
			r.Warn("", "slow")
		}
	})
}

// flume: TestContext testPutGet testSubProperties
func TestBindValues(t *testing.T) {
	a := new(all)
	k, faults := conf.Bind(a, map[string]string{
		"flag": "FALSE", "n": "+9", "batchSize": "10", "long": "-5", "ratio": "1.5f", "text": "always", "wait": "2000",
		"roll": "9223372036854775807", "size": "2 MiB", "words": "red \t blue", "commas": "a, b ,,c", "re": "^b",
		"below.a.b": "1", "below.special.x": "YES", "charset": "latin1", "old.thing": "x",
	})
	want := &all{
		flag: false, n: 9, batch: 10, long: -5, ratio: 1.5, text: "Always", pass: "changeit", wait: 2 * time.Second,
		roll: 1<<63 - 1, size: 2 << 20, words: []string{"Red", "Blue"}, commas: []string{"a", "b", "c"},
		re: regexp.MustCompile("^b"), below: map[string]string{"a.b": "1"}, special: map[string]string{"x": "yes"}, charset: "latin1",
	}
	same := cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() })
	if diff := cmp.Diff(want, a, cmp.AllowUnexported(all{}), same); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := join(faults), "warning roll: is deprecated (use wait)\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	if n, ok := k.BatchSize(); n != 10 || !ok {
		t.Errorf("batch size %d %v", n, ok)
	}
	if _, ok := k.TransactionCapacity(); ok {
		t.Error("has a transaction capacity")
	}
	for name, want := range map[string]bool{"n": true, "below.": true, "below.a.b": true, "pass": false} {
		if k.IsSet(name) != want {
			t.Errorf("IsSet(%s) is not %v", name, want)
		}
	}
}

func TestBindFaults(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{"flag", "on", `warning flag: "on" is false: only the word true is true (write true)`},
		{"n", "10", `warning n: "10" must be between 1 and 9: the default 5 is used`},
		{"n", "0x5", `warning n: "0x5" is not a whole number: the default 5 is used`},
		{"n", "1_0", `warning n: "1_0" is not a whole number: the default 5 is used`},
		{"n", "+-1", `warning n: "+-1" is not a whole number: the default 5 is used`},
		{"n", "", `warning n: has no value and is ignored`},
		{"batchSize", "0", `error batchSize: "0" must be at least 1`},
		{"long", "1000000000000001", `error long: "1000000000000001" must be at most 1000000000000000`},
		{"long", "5L", `error long: "5L" is not a whole number`},
		{"ratio", "0.2", `error ratio: "0.2" must be at least 0.25`},
		{"ratio", "0x1p4", `error ratio: "0x1p4" is not a number`},
		{"ratio", "NaN", `error ratio: "NaN" is not a number`},
		{"text", "allways", `error text: "allways" must be one of Never, Always (did you mean Always?)`},
		{"txt", "never", `warning txt: is an old name (write text)`},
		{"pass", "1234", `error pass: the value, which is secret, must be longer`},
		{"wait", "-1", `error wait: "-1" must be at least 0`},
		{"wait", "1 s", `error wait: "1 s" is not a whole number of milliseconds, nor a duration such as 1.5s`},
		{"size", "1t", `error size: "1t" is not a size in bytes, such as 1048576 or 1m`},
		{"size", "9007199254740992k", `error size: "9007199254740992k" is not a size in bytes, such as 1048576 or 1m`},
		{"words", "red green", `error words: "red green" must be one of Red, Blue`},
		{"commas", " , ", `error commas: "," must be non-empty ("," is part of the value: leave it out)`},
		{"re", "(?<!a)b", "error re: error parsing regexp: invalid named capture: `(?<!a)b`: " +
			"likely a construct that only Java has (look-around, back-reference, possessive quantifier)"},
		{"re", "(a", "error re: error parsing regexp: missing closing ): `(a`"},
		{"below.special.x", "perhaps", `error below.special.x: "perhaps" must be one of yes, no`},
		{"charset", "utf", `error charset: "utf" is not a charset`},
		{"batchSize", "1", `warning slow`},
		{"Flag", "true", `warning Flag: unknown key (did you mean flag?)`},
	} {
		_, faults := conf.Bind(new(all), map[string]string{tt.key: tt.value})
		if got := strings.TrimSpace(join(faults)); got != tt.want {
			t.Errorf("%s = %s:\n got %s\nwant %s", tt.key, tt.value, got, tt.want)
		}
	}
}

// TestSecretInCheck: a check that says a secret does not get it out.
func TestSecretInCheck(t *testing.T) {
	_, faults := conf.Bind(new(all), map[string]string{"n": "9", "pass": "open-sesame"})
	if got, want := join(faults), "error n: 9 is too many for ******\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

// TestSecretsStayIn: whatever a secret is, no fault of its line has it.
func TestSecretsStayIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[QXZ]{4}[\\${}QXZ #",]{0,8}`).Draw(t, "secret")
		key := rapid.SampledFrom([]string{"keystore-password", "keystore-pasword", "ssl.password", "token"}).Draw(t, "key")
		loaded, _ := conf.Load(conf.FromText("t", "a.sources = r\na.channels = c\na.channels.c.type = memory\n"+
			"a.sources.r.type = avro\na.sources.r.channels = c\na.sources.r."+key+" = old\na.sources.r."+key+" = "+secret+"\n"))
		_, faults := loaded.Build("a", catalog, conf.Options{})
		if text := join(faults); strings.ContainsAny(text, "QXZ") {
			t.Fatal(text)
		}
	})
}

func TestDeclaredTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	conf.Describe(stub{func(k *conf.Keys) {
		texts(k, "a", "b")
		texts(k, "b")
	}})
}

func TestDocs(t *testing.T) {
	docs := conf.Describe(new(all))
	got := conf.HelpText("sink all", "A sink that has a key of every type, and a description that is longer than one line of "+
		"a terminal is wide.", docs) + "\n" + conf.MarkdownTable(docs) + "\n"
	for _, kind := range []conf.Kind{conf.KindSource, conf.KindChannel, conf.KindSink, conf.KindGroup, conf.KindSelector} {
		got += string(kind) + "\n" + conf.MarkdownTable(conf.CommonKeys(kind))
	}
	if strings.Contains(got, "changeit") {
		t.Error("a secret default is shown")
	}
	const file = "testdata/docs.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFaultJSON(t *testing.T) {
	f := conf.Fault{Pos: conf.Pos{File: "a \"b\".conf", Line: 4}, Severity: conf.Error, Key: "a.k", Text: "\"é\n\" is bad", Hint: "no"}
	got, err := json.Marshal(conf.Faults{f})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"file":"a \"b\".conf","line":4,"severity":"error","key":"a.k","message":"\"é\n\" is bad","hint":"no"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	at := func(file string, line int, s conf.Severity) conf.Fault {
		return conf.Fault{Pos: conf.Pos{File: file, Line: line}, Severity: s, Text: "t"}
	}
	fs := conf.Faults{at("b", 2, conf.Error), at("c", 1, conf.Warning), at("a", 9, conf.Error), at("b", 1, conf.Warning), at("", 0, conf.Warning)}
	fs.Sort([]string{"b", "a"})
	if got, want := join(fs), "warning t\nwarning b:1: t\nerror b:2: t\nerror a:9: t\nwarning c:1: t\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	if got, want := fs.Err().Error(), "b:2: t\na:9: t"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	if err := fs[:2].Err(); err != nil {
		t.Error(err)
	}
}

func TestSame(t *testing.T) {
	build := func(text string) *conf.Agent {
		loaded, _ := conf.Load(conf.FromText("t", text))
		agent, faults := loaded.Build("a", catalog, conf.Options{})
		if agent == nil {
			t.Fatal(faults)
		}
		return agent
	}
	const head = "a.sinks = k\na.channels = c\na.channels.c.type = memory\na.sinks.k.channel = c\n"
	a := build(head + "a.sinks.k.type = null\na.sinks.k.batchSize = 5\n")
	b := build(head + "# moved\na.sinks.k.batchSize = 5\na.sinks.k.type = null\n")
	c := build(head + "a.sinks.k.type = null\na.sinks.k.batchSize = 6\n")
	if !a.Sinks[0].Same(&b.Sinks[0].Component) || a.Sinks[0].Same(&c.Sinks[0].Component) {
		t.Error("Same goes by something else than keys and values")
	}
}
