package javaregex

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/core/conf"
)

// verdict is what java.util.regex of Java 17 makes of a pattern; see e2e/oracle/Regex.java.
type verdict struct {
	Pattern string
	Error   string
	Texts   []struct {
		Text string
		All  [][]int
	}
}

func verdicts(t testing.TB) []verdict {
	t.Helper()
	f, err := os.Open("testdata/verdicts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []verdict
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var v verdict
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	if s.Err() != nil || len(list) < 1000 {
		t.Fatal(len(list), s.Err())
	}
	return list
}

// refused is what Java has and we have not, with what a user is told.
var refused = map[string]string{
	`a\b{g}`:                             `\b{g} is not supported, at character 3`,
	`(?<=a*)x`:                           `look-behind without an obvious maximum length, at character 8`,
	`\p{javaWhitespace}\p{javaMirrored}`: `\p{javaMirrored} is not known, at character 35`,
	`\X`:                                 `\X is not supported, at character 3`,
	`\N{LATIN SMALL LETTER A}`:           `\N{name} is not supported, at character 3`,
	`(?c)a`:                              `canonical equivalence, (?c), is not supported, at character 3`,
}

// stale are patterns of which Java keeps groups that no part of the match is in; the whole matches are the same.
var stale = map[string]bool{
	`(?>.{2})(?!(?<n1>(\e){0}+^?).*{1,}a{0}?)?`: true,
}

// all is what Each finds.
func (re *Regexp) all(t testing.TB, text string) [][]int {
	list := [][]int{}
	if err := re.Each([]byte(text), func(loc []int) { list = append(list, loc) }); err != nil {
		t.Errorf("%s on %q: %v", re, text, err)
	}
	return list
}

// Every pattern is taken or refused as by Java, and finds what Java finds, or is refused for what is said in refused.
func TestVerdicts(t *testing.T) {
	seen := 0
	for _, v := range verdicts(t) {
		re, err := Compile(v.Pattern)
		if why, ours := refused[v.Pattern]; ours {
			seen++
			if err == nil || v.Error != "" || !strings.HasSuffix(err.Error(), why) {
				t.Errorf("/%s: %v; Java: %q", v.Pattern, err, v.Error)
			}
			continue
		}
		if (err != nil) != (v.Error != "") {
			t.Errorf("/%s: %v; Java: %q", v.Pattern, err, v.Error)
			continue
		}
		if re != nil {
			re.Limit(time.Minute) // this is not about time
		}
		for _, x := range v.Texts {
			got, want := re.all(t, x.Text), x.All
			if stale[v.Pattern] {
				seen++
				got, want = wholes(got), wholes(want)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("/%s on %q: %v; Java: %v (%s)", v.Pattern, x.Text, got, want, emitNET(re.tree, re.groups))
			}
			checkFirst(t, re, x.Text, x.All)
		}
	}
	if seen < len(refused)+len(stale) {
		t.Errorf("%d exceptions met: some are of no use", seen)
	}
}

func wholes(all [][]int) [][]int {
	list := [][]int{}
	for _, loc := range all {
		list = append(list, loc[:2])
	}
	return list
}

// checkFirst holds Find and Match against the first of all matches.
func checkFirst(t *testing.T, re *Regexp, text string, all [][]int) {
	t.Helper()
	loc, err := re.Find([]byte(text))
	found, err2 := re.Match([]byte(text))
	if err != nil || err2 != nil || found != (len(all) > 0) || (loc != nil) != found {
		t.Errorf("/%s on %q: found %v at %v, %v %v; Java: %v", re, text, found, loc, err, err2, all)
	} else if found && !reflect.DeepEqual(loc[:2], all[0][:2]) {
		t.Errorf("/%s on %q: first at %v; Java: %v", re, text, loc, all[0])
	}
}

// What RE2 has goes to Go's engine, for the texts of which it is right.
func TestEngine(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		fast          bool
	}{
		{`^<[0-9]+>`, "<13>x", true},
		{`(INFO.*)|(WARNING.*)`, "INFO: \u00e9\n", true},
		{`\w+\s\d{3}`, "GET 200", true},
		{`foo$`, "foo\n", true},
		{`foo$`, "foo", true},
		{`a$b`, "a\n", false},
		{`\bword\b`, "a word", true},
		{`\bword\b`, "\u00e9 word", false},
		{`(?m)^a$`, "a", true},
		{`(?m)^a$`, "a\nb", false},
		{`(?<=a)b`, "ab", false},
		{`(a)\1`, "aa", false},
		{`a++b`, "aab", false},
	} {
		if got := MustCompile(c.pattern).pick([]byte(c.text), false) != nil; got != c.fast {
			t.Errorf("/%s on %q: fast %v", c.pattern, c.text, got)
		}
	}
}

// A pattern that tries too many ways ends with the limit; in Go's engine it needs none.
func TestLimit(t *testing.T) {
	text := []byte(strings.Repeat("a", 40) + "b")
	re := MustCompile(`(?=a)(a|aa|aaa)+$`)
	re.Limit(50 * time.Millisecond)
	if found, err := re.Match(text); found || !errors.Is(err, ErrLimit) || !re.Backtracks() {
		t.Errorf("%v %v", found, err)
	}
	if _, changed, err := re.Replace(nil, text, new(Replacement)); changed || !errors.Is(err, ErrLimit) {
		t.Errorf("replace: %v %v", changed, err)
	}
	many := MustCompile(`(?<=a)b`)
	many.Limit(time.Millisecond)
	if err := many.Each([]byte(strings.Repeat("ab", 200_000)), func([]int) {}); !errors.Is(err, ErrLimit) {
		t.Errorf("many matches, each of them quick: %v", err)
	}
	if found, err := MustCompile(`(a|aa|aaa)+$`).Match(text); found || err != nil {
		t.Errorf("%v %v", found, err)
	}
}

func TestReplace(t *testing.T) {
	for _, c := range []struct{ pattern, with, text, want string }{
		{`^<[0-9]+>`, ``, "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", "Feb  5 17:32:18 10.0.0.99 Use the BFG!"},
		{
			`The quick brown ([a-z]+) jumped over the lazy ([a-z]+).`, `The hungry $2 ate the careless $1.`,
			"The quick brown fox jumped over the lazy dog.", "The hungry dog ate the careless fox.",
		},
		{`[ \t]+`, `-`, "a b \tc", "a-b-c"},
		{`(a)(b)?`, `[$1$2]`, "ab a", "[ab] [a]"},
		{`(?<k>\w+)=(\w+)`, `${k}:$2`, "a=1 b=2", "a:1 b:2"},
		{`(a)`, `$10`, "a", "a0"},
		{`(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)`, `$10$0`, "abcdefghij", "jabcdefghij"},
		{`\d+`, `\$\\\x`, "7", `$\x`},
		{`x*`, `-`, "abc", "-a-b-c-"},
		{`(?<=\d)(?=(\d{3})+$)`, `,`, "1234567", "1,234,567"},
		{`\R`, ` `, "a\r\nb\u2028c", "a b c"},
		{`é`, `e`, "\xc3é\xff", "\xc3e\xff"},
	} {
		re := MustCompile(c.pattern)
		with, err := re.Replacement(c.with)
		if err != nil {
			t.Errorf("%q: %v", c.with, err)
			continue
		}
		got, changed, err := re.Replace([]byte("> "), []byte(c.text), with)
		if err != nil || !changed || string(got) != "> "+c.want {
			t.Errorf("%s with %q on %q: %q, %v", c.pattern, c.with, c.text, got, err)
		}
		got, changed, err = re.Replace([]byte("> "), []byte("@@@"), with)
		if err != nil || string(got) != "> " && !changed {
			t.Errorf("%s: %q, %v", c.pattern, got, err)
		}
	}
}

func TestBadReplacements(t *testing.T) {
	re := MustCompile(`(a)(?<n>b)`)
	for text, want := range map[string]string{
		`a\`: "single backslash", `$`: "no $1", `$x`: "no $1", `$3`: "has 2 groups", `${m}`: "no group", `${n`: "without }", `${}`: "no group",
	} {
		if _, err := re.Replacement(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

type keyed struct{ part, whole, def *Regexp }

func (c *keyed) Keys(k *conf.Keys) {
	Key(k, &c.part, "part", "", "")
	WholeKey(k, &c.whole, "whole", "", "")
	Key(k, &c.def, "def", "a+", "")
}

func TestKeys(t *testing.T) {
	c := new(keyed)
	if _, faults := conf.Bind(c, map[string]string{"part": "a|b", "whole": "a|b"}); len(faults) > 0 {
		t.Fatal(faults)
	}
	for re, want := range map[*Regexp]bool{c.part: true, c.whole: false, c.def: true} {
		if got, err := re.Match([]byte("xa")); got != want || err != nil {
			t.Errorf("%s: %v %v", re, got, err)
		}
	}
	_, faults := conf.Bind(new(keyed), map[string]string{"part": "a(b"})
	if len(faults) != 1 || faults[0].Text != `"a(b" is not a Java regular expression: unclosed group, at character 4` {
		t.Error(faults)
	}
}

// No text makes a pattern fail that was accepted, except for its limit.
func FuzzCompile(f *testing.F) {
	for _, v := range verdicts(f)[:168] {
		for _, x := range v.Texts {
			f.Add(v.Pattern, x.Text)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 200 || len(text) > 200 {
			return
		}
		re, err := Compile(pattern)
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || bad.At > utf8.RuneCountInString(pattern) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		re.Limit(100 * time.Millisecond)
		last := 0
		err = re.Each([]byte(text), func(loc []int) {
			if len(loc) != 2*(re.Groups()+1) || loc[0] < last || loc[1] < loc[0] || loc[1] > len(text) {
				t.Fatalf("%v behind %d", loc, last)
			}
			last = loc[1]
		})
		if err != nil && !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	text := []byte(`10.0.0.99 - - [17/Oct/2012:14:34:44 +0000] "GET /index.html HTTP/1.1" 200 512`)
	for name, pattern := range map[string]string{"linear": `" (5\d\d|404) `, "backtracking": `(?<=" )(5\d\d|404)(?= )`} {
		b.Run(name, func(b *testing.B) {
			re := MustCompile(pattern)
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := re.Match(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
