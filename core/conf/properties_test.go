package conf_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/magiconair/properties"
	"github.com/millrace/millrace/core/conf"
	"pgregory.net/rapid"
)

func parse(text string) (map[string]string, conf.Faults) {
	props, faults := conf.ParseProperties("t", []byte(text), 0)
	m := map[string]string{}
	for _, p := range props {
		m[p.Key] = p.Value
	}
	return m, faults
}

// TestPropertiesTable is the conformance table of the behavioural reference.
func TestPropertiesTable(t *testing.T) {
	for _, tt := range []struct {
		text string
		want map[string]string
	}{
		{"a.b=c", map[string]string{"a.b": "c"}},
		{"a.b:c", map[string]string{"a.b": "c"}},
		{"a.b c", map[string]string{"a.b": "c"}},
		{"a.b\tc", map[string]string{"a.b": "c"}},
		{"a.b = c ", map[string]string{"a.b": "c "}},
		{"a.b==c", map[string]string{"a.b": "=c"}},
		{"a.b= = c", map[string]string{"a.b": "= c"}},
		{"a.b : = c", map[string]string{"a.b": "= c"}},
		{"a.b=c # x", map[string]string{"a.b": "c # x"}},
		{"a.b=#x", map[string]string{"a.b": "#x"}},
		{"a.b=c\\\n   d", map[string]string{"a.b": "cd"}},
		{"a.b=c \\\n   d", map[string]string{"a.b": "c d"}},
		{"a.b=c\\\\\nd=e", map[string]string{"a.b": `c\`, "d": "e"}},
		{"a.b=c\\\n# d\ne=f", map[string]string{"a.b": "c# d", "e": "f"}},
		{"a=c\\\n\ne=f", map[string]string{"a": "c", "e": "f"}},
		{"# c \\\na=b", map[string]string{"a": "b"}},
		{`a\ b=c`, map[string]string{"a b": "c"}},
		{`a\=b=c`, map[string]string{"a=b": "c"}},
		{`a\:b=c`, map[string]string{"a:b": "c"}},
		{`a.b=\u0041\u00e9`, map[string]string{"a.b": "Aé"}},
		{`a.b=\ud83d\ude00\ud83d`, map[string]string{"a.b": "😀\ufffd"}},
		{`a.b=C:\dir\new`, map[string]string{"a.b": "C:dir\new"}},
		{`a.b=(\d+)`, map[string]string{"a.b": "(d+)"}},
		{`a.b=(\\d+)`, map[string]string{"a.b": `(\d+)`}},
		{`a.b=\q\.\"`, map[string]string{"a.b": `q."`}},
		{`a.b=\ x`, map[string]string{"a.b": " x"}},
		{"a.b", map[string]string{"a.b": ""}},
		{"a.b=", map[string]string{"a.b": ""}},
		{"=c", map[string]string{"": "c"}},
		{"a.b=1\na.b=2", map[string]string{"a.b": "2"}},
		{"\ufeffa=b", map[string]string{"a": "b"}},
		{"a=é", map[string]string{"a": "é"}},
		{"a=\xe9\nb=é", map[string]string{"a": "é", "b": "é"}},
		{`a=x\u00g1y`, map[string]string{"a": `x\u00g1y`}},
	} {
		got, _ := parse(tt.text)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", tt.text, diff)
		}
	}
}

func TestPropertiesFaults(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a=b\n\n#\n c = \\u12 \nd=e", `error t:4: c: malformed \u: four hexadecimal digits must follow (write \\u for a backslash and a u)`},
		{"x=1\ry=\\\r\n  \xff", "warning t:2: y: is not UTF-8, taken as ISO-8859-1 (save the file as UTF-8)"},
		{"# \xff\nx=1", ""},
		{`a=.*\.log`, `warning t:1: a: "\." is read as ".": the format drops a single backslash (write \\. to keep it)`},
		{`a=\:\=\#\!\ \\\t`, ""},
		{"a=1\nb=2\na = 3", "warning t:3: a: has another value at line 1: this one, the last, counts (remove one of them)"},
		{"a=1\na = 1 ", ""},
		{"\ufeffa=1", ""},
	} {
		_, faults := parse(tt.text)
		if got := strings.TrimSpace(join(faults)); got != tt.want {
			t.Errorf("%q:\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

func TestPropertiesLimit(t *testing.T) {
	_, faults := conf.ParseProperties("t", []byte("a=12345"), 6)
	if got, want := join(faults), "error t: a configuration of 7 bytes is larger than the limit of 6\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

// TestPropertiesOracle holds the parser against what java.util.Properties of JDK 17 made of the same text.
func TestPropertiesOracle(t *testing.T) {
	f, err := os.Open("testdata/properties.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var c struct {
			Name  string
			Text  []byte `json:"text_base64"`
			Props map[string]string
			Error string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		got, faults := parse(string(c.Text))
		if (c.Error != "") != faults.HasErrors() {
			t.Errorf("%s: Java: %q, we: %v", c.Name, c.Error, faults)
		}
		if c.Error != "" {
			continue
		}
		if diff := cmp.Diff(c.Props, got); diff != "" {
			t.Errorf("%s %q: -java +go:\n%s", c.Name, c.Text, diff)
		}
	}
	if n == 0 {
		t.Fatal("no cases")
	}
}

// TestPropertiesLibrary holds the parser against another Go library, on texts where that one keeps to the format.
func TestPropertiesLibrary(t *testing.T) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	line := rapid.StringMatching(`[ab.]{1,4}( ?[=:] ?)([a-z#!=:]( |\\\\|\\t|\\u00[0-9]a|\\\n  )?){1,6}`)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(line, 0, 8).Draw(t, "lines"), "\n")
		want, err := loader.LoadBytes([]byte(text))
		if err != nil {
			t.Skip(err)
		}
		got, _ := parse(text)
		if diff := cmp.Diff(want.Map(), got); diff != "" {
			t.Fatalf("%q: -library +we:\n%s", text, diff)
		}
	})
}

func FuzzParseProperties(f *testing.F) {
	for _, seed := range []string{"a=b", "a\\\n b : c\\u0041", "\\", "a=\\u12", "#x\\\ny\xff=z", "\r\n\\\r\na\\\r=b", "\ufeff a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		props, faults := conf.ParseProperties("f", text, 0)
		lines := 1 + bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r"))
		last := 0
		for _, p := range props {
			if !utf8.ValidString(p.Key) || !utf8.ValidString(p.Value) {
				t.Fatalf("not UTF-8: %+v", p)
			}
			if p.Pos.Line < last || p.Pos.Line < 1 || p.Pos.Line > lines {
				t.Fatalf("line %d after %d of %d", p.Pos.Line, last, lines)
			}
			last = p.Pos.Line
		}
		for _, fault := range faults {
			if fault.Pos.Line < 1 || fault.Pos.Line > lines {
				t.Fatalf("fault at line %d of %d", fault.Pos.Line, lines)
			}
		}
		// What was read can be written and read again.
		var again strings.Builder
		for _, p := range props {
			again.WriteString(escape(p.Key) + "=" + escape(p.Value) + "\n")
		}
		reread, _ := conf.ParseProperties("f", []byte(again.String()), 1<<30)
		if len(reread) != len(props) {
			t.Fatalf("%d properties written, %d read", len(props), len(reread))
		}
		for i := range props {
			if reread[i].Key != props[i].Key || reread[i].Value != props[i].Value {
				t.Fatalf("written %+v, read %+v", props[i], reread[i])
			}
		}
	})
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\f", `\f`, " ", `\ `,
		"=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`).Replace(s)
}
