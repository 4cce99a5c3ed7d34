package sidecar

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

const (
	coverageData = "docs/coverage/flume.tsv"
	coveragePage = "docs/coverage.md"
)

// flumeType is what the list says of a type of Flume's.
type flumeType struct {
	line       int
	kind, name string // source, taildir; name * is every type of the kind
	class      string
	keys       []flumeKey
}

// flumeKey is one of its keys.
type flumeKey struct {
	line     int
	name     string // may have variable parts: filegroups.<group>
	standard string // required, or the default
	remark   string // what is purposely unlike Flume, and why: see below
}

// Remarks begin with one of these.
const (
	refused = "refused: " // the key is an error
	leftOut = "left out: "
	differs = "differs: " // another default
)

// readFlume reads the list of Flume's types and keys.
func readFlume(text string) []flumeType {
	var all []flumeType
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		cells := append(strings.Split(line, "\t"), "", "", "")
		kind, typ, key := cells[0], cells[1], flumeKey{i + 1, cells[2], cells[3], cells[4]}
		at := slices.IndexFunc(all, func(t flumeType) bool { return t.kind == kind && t.name == typ })
		if at < 0 {
			at = len(all)
			all = append(all, flumeType{line: i + 1, kind: kind, name: typ})
		}
		if key.name == "" {
			all[at].class = key.standard
			continue
		}
		all[at].keys = append(all[at].keys, key)
	}
	return all
}

// coverageFile adds the page that compares Flume's keys with ours to files. faults are what has no reason.
func coverageFile(cat *core.Catalog, tree fs.FS, files map[string]string) (faults []string, err error) {
	text, err := fs.ReadFile(tree, coverageData)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a tree without the list
	}
	if err != nil {
		return nil, err
	}
	c := coverage{cat: cat, count: make(map[string]int)}
	for _, t := range readFlume(string(text)) {
		c.section(t)
	}
	list := strings.TrimPrefix(coverageData, "docs/")
	var sum strings.Builder
	for _, state := range []string{accepted, inert, "refused", "left out", absentKey} {
		fmt.Fprintf(&sum, "| %s | %d | %d |\n", state, c.count["type "+state], c.count["key "+state])
	}
	files[coveragePage] = madeBy + "# Coverage of Flume 1.11\n\n" +
		"Every type of Flume, and every key of those that need no server, compared with what this version declares. The list of Flume's\n" +
		"is [" + list + "](" + list + "); a test fails where a difference has no reason there. A key that is accepted has Flume's\n" +
		"meaning; differences in behaviour are in [compatibility.md](compatibility.md).\n\n" +
		"| | Types | Keys |\n|---|---|---|\n" + sum.String() + c.b.String()
	return c.faults, nil
}

// What becomes of a key of Flume's.
const (
	accepted  = "accepted"
	inert     = "no effect"
	absentKey = "absent" // with its type
)

// coverage writes the page.
type coverage struct {
	cat    *core.Catalog
	b      strings.Builder
	count  map[string]int // of types and keys by what becomes of them
	faults []string
}

func (c *coverage) fault(line int, text string) {
	c.faults = append(c.faults, fmt.Sprintf("%s:%d: %s", coverageData, line, text))
}

func (c *coverage) section(t flumeType) {
	at := slices.IndexFunc(kinds, func(k kindName) bool { return k.words[0] == t.kind })
	if at < 0 {
		c.fault(t.line, "there is no kind "+t.kind)
		return
	}
	kind := kinds[at].kind
	if t.name == "*" {
		fmt.Fprintf(&c.b, "\n## every %s\n\n", t.kind)
		c.table(t, conf.CommonKeys(kind), nil)
		return
	}
	fmt.Fprintf(&c.b, "\n## %s `%s`\n\n", t.kind, t.name)
	_, name, hint, here := c.cat.Find(kind, t.name)
	if !here {
		c.count["type "+absentKey]++
		c.count["key "+absentKey] += len(t.keys)
		if hint == "" {
			c.fault(t.line, t.kind+" "+t.name+" is neither here nor said to be absent")
		}
		fmt.Fprintf(&c.b, "Absent: %s.\n", hint)
		return
	}
	c.count["type "+accepted]++
	if t.class != "" {
		if _, as, _, ok := c.cat.Find(kind, t.class); !ok || as != name {
			c.fault(t.line, "the class "+t.class+" does not lead to "+t.kind+" "+name)
		}
	}
	e := entry(c.cat, kind, name)
	own := conf.Describe(e.New())
	fmt.Fprintf(&c.b, "[%s](reference/%s)\n", e.Doc, referenceFile(e))
	if len(t.keys) > 0 {
		c.b.WriteByte('\n')
		c.table(t, append(own, commonKeys(kind, own)...), e.New)
	}
}

func (c *coverage) table(t flumeType, docs []conf.KeyDoc, make func() conf.Binder) {
	c.b.WriteString("| Key | Default in Flume | | |\n|---|---|---|---|\n")
	for _, k := range t.keys {
		state, text, fault := compare(k, docs, make)
		if fault != "" {
			c.fault(k.line, t.kind+" "+t.name+" "+k.name+": "+fault)
		}
		c.count["key "+state]++
		fmt.Fprintf(&c.b, "| `%s` | %s | %s | %s |\n", conf.TableCell(k.name), standing(k.standard), state, conf.TableCell(text))
	}
}

func standing(standard string) string {
	switch standard {
	case "":
		return ""
	case "required":
		return "**required**"
	}
	return "`" + conf.TableCell(standard) + "`"
}

var variablePart = regexp.MustCompile(`<[^>]*>`)

// compare tells what becomes of a key, with a remark, and whether that lacks a reason.
func compare(k flumeKey, docs []conf.KeyDoc, make func() conf.Binder) (state, text, fault string) {
	name := variablePart.ReplaceAllString(k.name, "1")
	d, declared := declaredKey(docs, name)
	if reason, ok := strings.CutPrefix(k.remark, leftOut); ok {
		if declared {
			fault = "is left out, and declared"
		}
		return "left out", reason, fault
	}
	if reason, ok := strings.CutPrefix(k.remark, refused); ok {
		if make == nil {
			return "refused", reason, "is common to a kind: nothing refuses it"
		}
		if _, faults := conf.Bind(make(), map[string]string{name: "1"}); !slices.ContainsFunc(faults, func(f conf.Fault) bool {
			return f.Severity == conf.Error && strings.HasPrefix(name+".", strings.TrimSuffix(f.Key, ".")+".")
		}) {
			fault = "is said to be refused, and is not"
		}
		return "refused", reason, fault
	}
	switch {
	case !declared:
		return absentKey, "", "is not declared"
	case d.Inert:
		return inert, d.Doc, ""
	case !d.Prefix && d.Key != name:
		return accepted, "Old name of `" + d.Key + "`.", ""
	case k.standard == "required" && d.Required, k.standard == "required" && d.Default == "",
		!d.Required && strings.EqualFold(k.standard, d.Default):
	case strings.HasPrefix(k.remark, differs):
		here := cmp.Or(standing(d.Default), "none")
		if d.Required {
			here = "**required**"
		}
		return accepted, "Default here: " + here + ". " + strings.TrimPrefix(k.remark, differs), ""
	default:
		return accepted, "", fmt.Sprintf("has another default: %q in Flume, %q here (required: %v)", k.standard, d.Default, d.Required)
	}
	if strings.HasPrefix(k.remark, differs) {
		fault = "is said to differ in its default, and does not"
	}
	return accepted, "", fault
}

// declaredKey finds the declaration that claims a key: its own, an old name, or the longest prefix.
func declaredKey(docs []conf.KeyDoc, name string) (found conf.KeyDoc, ok bool) {
	for _, d := range docs {
		switch {
		case !d.Prefix && (d.Key == name || slices.Contains(d.Aliases, name)):
			return d, true
		case d.Prefix && strings.HasPrefix(name, d.Key) && len(d.Key) > len(found.Key):
			found, ok = d, true
		}
	}
	return found, ok
}
