package javaregex

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
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
	if s.Err() != nil || len(list) < 3000 {
		t.Fatal(len(list), s.Err())
	}
	return list
}

// all is what Each finds.
func (re *Regexp) all(t testing.TB, text string) [][]int {
	list := [][]int{}
	if err := re.Each([]byte(text), func(loc []int) { list = append(list, loc) }); err != nil {
		t.Errorf("%s on %q: %v", re, text, err)
	}
	return list
}

// Every pattern is taken or refused as by Java, and finds what Java finds.
func TestVerdicts(t *testing.T) {
	for _, v := range verdicts(t) {
		re, err := Compile(v.Pattern)
		if (err != nil) != (v.Error != "") {
			t.Errorf("/%s: %v; Java: %q", v.Pattern, err, v.Error)
			continue
		}
		for _, x := range v.Texts {
			if got := re.all(t, x.Text); !reflect.DeepEqual(got, x.All) {
				t.Errorf("/%s on %q: %v; Java: %v (fast %v) %s", v.Pattern, x.Text, got, x.All, !re.scope.none, strings.TrimSpace(""))
			}
		}
	}
}
