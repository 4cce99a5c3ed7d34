package conf

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// value is a value that was read, in the forms that rules look at.
type value struct {
	num   float64  // of numbers, in the unit of the key
	isNum bool     //
	words []string // of texts: one; of lists: all. Rules may respell them
	store func(words []string)
	doubt string // it reads, but hardly as it was meant
	hint  string
}

// number is a value that rules compare.
func number(num float64, store func()) (value, error) {
	return value{num: num, isNum: true, store: func([]string) { store() }}, nil
}

// parseInt reads a number as Java's parseInt and parseLong do: a sign or none, then digits only.
func parseInt(text string, lowest, highest int64) (int64, error) {
	digits := strings.TrimPrefix(text, "+")
	if digits == text {
		digits = strings.TrimPrefix(text, "-")
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < lowest || n > highest {
		return 0, fmt.Errorf("%q is not between %d and %d", text, lowest, highest)
	}
	return n, nil
}

// parseFloat reads a number as Java's parseDouble does, except for hexadecimal ones.
func parseFloat(text string) (float64, error) {
	s := text
	if n := len(s); n > 1 && strings.IndexByte("fFdD", s[n-1]) >= 0 {
		s = s[:n-1]
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.Trim(s, "+-.0123456789eE") != "" {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return f, nil
}

// parseDuration reads a whole number of units, or a duration with its own units as Go writes it. What does not fit is
// the longest duration there is: long values stand for "never".
func parseDuration(text string, unit time.Duration) (time.Duration, error) {
	n, err := parseInt(text, math.MinInt64, math.MaxInt64)
	if err != nil {
		if d, err := time.ParseDuration(text); err == nil {
			return d, nil
		}
		return 0, fmt.Errorf("%q is not a whole number of %s, nor a duration such as 1.5s", text, unitName(unit))
	}
	switch {
	case n > int64(math.MaxInt64/unit):
		return math.MaxInt64, nil
	case n < int64(math.MinInt64/unit):
		return math.MinInt64, nil
	}
	return time.Duration(n) * unit, nil
}

func unitName(unit time.Duration) string {
	if unit == time.Second {
		return "seconds"
	}
	return "milliseconds"
}

// byteUnits are the suffixes of sizes, longest first; all count by 1024.
var byteUnits = []struct {
	suffix string
	shift  uint
}{{"kib", 10}, {"mib", 20}, {"gib", 30}, {"kb", 10}, {"mb", 20}, {"gb", 30}, {"k", 10}, {"m", 20}, {"g", 30}}

// parseBytes reads a whole number of bytes, or of KiB, MiB or GiB.
func parseBytes(text string) (int64, error) {
	lower, shift := strings.ToLower(text), uint(0)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(lower, u.suffix); ok {
			lower, shift = strings.TrimRight(rest, " "), u.shift
			break
		}
	}
	n, err := parseInt(lower, math.MinInt64>>shift, math.MaxInt64>>shift)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size in bytes, such as 1048576 or 1m", text)
	}
	return n << shift, nil
}

// parseBool is Boolean.parseBoolean: everything but true is false. doubt is set when it is not false either.
func parseBool(text string) (b bool, doubt, hint string) {
	switch strings.ToLower(text) {
	case "true":
		return true, "", ""
	case "false":
		return false, "", ""
	case "yes", "1", "on", "y", "t":
		return false, fmt.Sprintf("%q is false: only the word true is true", text), "write true"
	}
	return false, fmt.Sprintf("%q is false: only the word true is true", text), "write true or false"
}

// valueHint names what people put around a value that is then part of it.
func valueHint(text string) string {
	if _, note := cutNote(text); note != "" {
		return fmt.Sprintf("%q is part of the value: properties have no comments behind a value", note)
	}
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return "the quotes are part of the value: leave them out"
	}
	if i := strings.IndexAny(text, "\u00a0\u3000\u2003\u200b\ufeff"); i >= 0 {
		return fmt.Sprintf("it has an invisible character, %U", []rune(text[i:])[0])
	}
	if strings.HasSuffix(text, ";") || strings.HasSuffix(text, ",") {
		return fmt.Sprintf("%q is part of the value: leave it out", text[len(text)-1:])
	}
	if strings.HasPrefix(text, "${") {
		return "the reference is not resolved"
	}
	return ""
}

// cutNote splits a value from a note that begins with # after a blank.
func cutNote(text string) (value, note string) {
	for _, mark := range []string{" #", "\t#", " //"} {
		if i := strings.Index(text, mark); i >= 0 {
			return javaTrim(text[:i]), text[i+1:]
		}
	}
	return text, ""
}
