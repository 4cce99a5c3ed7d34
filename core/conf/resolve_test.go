package conf

import (
	"strings"
	"testing"
	"time"
)

func newResolver(raw map[string]string) *resolver {
	return &resolver{
		raw: raw, sys: map[string]string{"env": "DEV"}, used: map[string]bool{}, now: time.Unix(0, 0).UTC(),
		env: func(name string) (string, bool) { return "6667", name == "NC_PORT" },
	}
}

// TestResolve has what Flume's tests and StringSubstitutor's rules say.
func TestResolve(t *testing.T) {
	r := newResolver(map[string]string{
		"DEV_BIND": "192.168.11.101", "dollar": "a$", "twice": "${once}${once}", "once": "${env:NC_PORT}", "esc": "$${once}",
		"a": "${b}", "b": "x${a}", "n": "${${n}}", "sp ace": "s", "env:both": "no",
	})
	for _, tt := range []struct{ in, want string }{
		{"${env:NC_PORT}", "6667"},
		{"${ENV:NC_PORT}", "6667"},
		{"${NC_PORT}", "${NC_PORT}"},
		{"${${sys:env}_BIND}", "192.168.11.101"},
		{"${const:a.B.C}", "${const:a.B.C}"},
		{"${env:X:-7}", "7"},
		{"${env:X:-${env:NC_PORT}}", "6667"},
		{"${X:-}", ""},
		{"${X:-a:-b}", "a:-b"},
		{"$${env:HOME}", "${env:HOME}"},
		{"$${x${env:NC_PORT}}", "${x6667}"},
		{"$$${once}", "$${once}"},
		{"$${once", "$${once"},
		{"${once", "${once"},
		{"${a ${once}", "${a ${once}"},
		{"${dollar}${once}", "a${once}"},
		{"${twice}", "66676667"},
		{"${esc}", "${once}"},
		{"${sp ace}", "s"},
		{"${}", "${}"},
		{"$once {once}", "$once {once}"},
		{"${foo:once}", "6667"},
		{"${env:once}", "6667"},
		{"${date:yyyy}", "1970"},
		{"${a}", "!${a} refers to itself"},
		{"${n}", "!${n} refers to itself"},
		{strings.Repeat("${x", 200) + strings.Repeat("}", 200), "!references are nested more than 100 deep"},
		{strings.Repeat("${once}", 5001), "!the value has more than 10000 references"},
	} {
		got, err := r.resolve(tt.in)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %s want %s", tt.in, got, tt.want)
		}
	}
}

func TestResolveGrowth(t *testing.T) {
	raw := map[string]string{"k0": strings.Repeat("x", 1000)}
	for i := '1'; i <= '9'; i++ {
		raw["k"+string(i)] = strings.Repeat("${k"+string(i-1)+"}", 9)
	}
	if _, err := newResolver(raw).resolve("${k9}"); err == nil {
		t.Error("no limit")
	}
}

func TestFormatDate(t *testing.T) {
	at := time.Date(2024, 2, 3, 0, 5, 6, 7e6, time.FixedZone("CET", 3600))
	for pattern, want := range map[string]string{
		"yyyy-MM-dd HH:mm:ss,SSS": "2024-02-03 00:05:06,007",
		"yy M d H k K h a":        "24 2 3 0 24 0 12 AM",
		"EEE EEEE MMM MMMM DDD":   "Sat Saturday Feb February 034",
		"z Z X XX XXX G":          "CET +0100 +01 +0100 +01:00 AD",
		"YYYY ww u":               "2024 05 6",
		"'o''clock' ''":           "o'clock '",
		"":                        "2/3/24, 12:05 AM",
		"日":                       "日",
	} {
		if got, err := formatDate(pattern, at); got != want || err != nil {
			t.Errorf("%s: got %s %v, want %s", pattern, got, err, want)
		}
	}
	for _, bad := range []string{"b", "'x"} {
		if got, err := formatDate(bad, at); err == nil {
			t.Errorf("%s: got %s", bad, got)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"${a}", "$${a}", "${${a}:-${b}}", "${env:X:-${a", "${date:yy''}", "a$${${b}}"} {
		f.Add(seed, "x$", "${a}y")
	}
	f.Fuzz(func(t *testing.T, value, a, b string) {
		r := newResolver(map[string]string{"a": a, "b": b})
		got, err := r.resolve(value)
		if err != nil {
			return
		}
		if len(got) > 2*maxExpanded {
			t.Fatalf("%d bytes", len(got))
		}
		if !strings.Contains(value, "${") && got != value {
			t.Fatalf("%q became %q", value, got)
		}
		for _, name := range r.unresolved {
			if !strings.Contains(got, "${") {
				t.Fatalf("%q is unresolved and not in %q", name, got)
			}
		}
	})
}
