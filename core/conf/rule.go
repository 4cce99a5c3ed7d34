package conf

import (
	"fmt"
	"strconv"
	"strings"
)

// Rule is a condition on a value, with the words that say it after "must be".
type Rule struct {
	words string
	// What a schema says of the rule; see [Limits].
	limits Limits
	// test tells whether v keeps the rule; it may respell v.words. hint helps when it does not.
	test func(v *value) (ok bool, hint string)
}

// Words say the rule in documentation: "at least 1".
func (r Rule) Words() string { return r.words }

func numeric(words string, limits Limits, keeps func(n float64) bool) Rule {
	return Rule{words, limits, func(v *value) (bool, string) { return !v.isNum || keeps(v.num), "" }}
}

// Min is for numbers, durations and sizes, in the unit of the key.
func Min(n float64) Rule {
	return numeric("at least "+plain(n), Limits{Low: &n}, func(v float64) bool { return v >= n })
}

// Max is for numbers, durations and sizes, in the unit of the key.
func Max(n float64) Rule {
	return numeric("at most "+plain(n), Limits{High: &n}, func(v float64) bool { return v <= n })
}

// Range is Min and Max in one.
func Range(low, high float64) Rule {
	return numeric("between "+plain(low)+" and "+plain(high), Limits{Low: &low, High: &high}, func(v float64) bool { return v >= low && v <= high })
}

func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// OneOf is for texts and for every word of a list: one of the names, in any case. The value is then spelled as here.
func OneOf(names ...string) Rule {
	return Rule{"one of " + strings.Join(names, ", "), Limits{Names: names}, func(v *value) (bool, string) {
		for i, w := range v.words {
			found := false
			for _, n := range names {
				if strings.EqualFold(w, n) {
					v.words[i], found = n, true
				}
			}
			if !found {
				return false, didYouMean(nearest(w, names))
			}
		}
		return true, ""
	}}
}

// NotEmpty is for lists, and for texts in the map of a test: in a file an empty value is no value.
func NotEmpty() Rule {
	return Rule{"non-empty", Limits{}, func(v *value) (bool, string) {
		return v.isNum || len(v.words) > 0 && v.words[0] != "", ""
	}}
}

// That is any other rule on a text, or on every word of a list; words follow "must be".
func That(words string, keeps func(text string) bool) Rule {
	return Rule{words, Limits{}, func(v *value) (bool, string) {
		for _, w := range v.words {
			if !keeps(w) {
				return false, ""
			}
		}
		return true, ""
	}}
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", name)
}
