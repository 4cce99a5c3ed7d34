package javaregex

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Replacement is the text that takes the place of a match, with what stands for groups.
type Replacement struct{ parts []part }

// part is a text, or the content of a group.
type part struct {
	text  string
	group int // -1: text
}

// Replacement reads a replacement as java.util.regex.Matcher does: $1 and ${name} are groups, a backslash takes the
// meaning of the character behind it. What Java finds wrong at a match is an error here, at once; it is a predicate.
func (re *Regexp) Replacement(text string) (*Replacement, error) {
	t := new(Replacement)
	literal := func(s string) {
		if n := len(t.parts); n > 0 && t.parts[n-1].group < 0 {
			t.parts[n-1].text += s
			return
		}
		t.parts = append(t.parts, part{s, -1})
	}
	for text != "" {
		i := strings.IndexAny(text, `\$`)
		switch {
		case i < 0:
			literal(text)
			return t, nil
		case i > 0:
			literal(text[:i])
			text = text[i:]
		case text[0] == '\\':
			next := []rune(text[1:])
			if len(next) == 0 {
				return nil, errors.New(`ends with a single backslash; write \\ for one`)
			}
			literal(string(next[0]))
			text = string(next[1:])
		default:
			group, n, err := re.groupOf(text)
			if err != nil {
				return nil, err
			}
			t.parts = append(t.parts, part{"", group})
			text = text[n:]
		}
	}
	return t, nil
}

// groupOf reads $1 or ${name}; n is its length.
func (re *Regexp) groupOf(text string) (group, n int, err error) {
	if strings.HasPrefix(text, "${") {
		name, _, closed := strings.Cut(text[2:], "}")
		switch i := slices.Index(re.names, name); {
		case !closed:
			return 0, 0, errors.New("has ${ without }")
		case name == "" || i < 0:
			return 0, 0, fmt.Errorf("has ${%s}, and no group of the pattern has that name", name)
		default:
			return i, len(name) + 3, nil
		}
	}
	if len(text) < 2 || text[1] < '0' || text[1] > '9' {
		return 0, 0, errors.New(`has a $ that is no $1 and no ${name}; write \$ for a dollar`)
	}
	if group = int(text[1] - '0'); group > re.groups {
		return 0, 0, fmt.Errorf("has $%d, and the pattern has %d groups", group, re.groups)
	}
	for n = 2; n < len(text) && text[n] >= '0' && text[n] <= '9'; n++ {
		further := group*10 + int(text[n]-'0')
		if further > re.groups {
			break
		}
		group = further
	}
	return group, n, nil
}

// Append appends what t is for a match of text, as Find returns it.
func (t *Replacement) Append(dst, text []byte, loc []int) []byte {
	for _, p := range t.parts {
		switch {
		case p.group < 0:
			dst = append(dst, p.text...)
		case loc[2*p.group] >= 0:
			dst = append(dst, text[loc[2*p.group]:loc[2*p.group+1]]...)
		}
	}
	return dst
}

// Replace appends text to dst with every match replaced. changed tells whether there was one; if not, or on an error,
// dst is returned as it was.
func (re *Regexp) Replace(dst, text []byte, t *Replacement) (_ []byte, changed bool, err error) {
	begin, last := len(dst), 0
	err = re.Each(text, func(loc []int) {
		changed = true
		dst = append(dst, text[last:loc[0]]...)
		dst = t.Append(dst, text, loc)
		last = loc[1]
	})
	if err != nil || !changed {
		return dst[:begin], false, err
	}
	return append(dst, text[last:]...), true, nil
}
