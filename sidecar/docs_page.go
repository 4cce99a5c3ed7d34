package sidecar

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// A page is what a person has written of a type, in the README of the type's folder:
//
//	<!-- page:source netcat -->
//	## Example
//	## Headers
//	## Counters
//	## Guarantees
//	<!-- /page -->
//
// with headings of any level. The reference is put together from it and from the keys. The example is a whole
// configuration in a block of its own kind, properties, and is checked.
type page struct {
	file     string
	sections map[string]string // by heading, without it
}

// pageSections are the headings of a page, all of which it must have.
var pageSections = []string{"Example", "Headers", "Counters", "Guarantees"}

// readPages finds the pages of a source tree, by kind and type: "source netcat". faults are what is wrong with them.
func readPages(cat *core.Catalog, tree fs.FS) (pages map[string]page, faults []string, err error) {
	pages = make(map[string]page)
	err = walkTexts(tree, func(name, text string) error {
		for from := 0; ; {
			what, body, line, next, closed, ok := cutPage(text, from)
			if !ok {
				return nil
			}
			from = next
			at := fmt.Sprintf("%s:%d: page:%s", name, line-1, what)
			if !closed {
				faults = append(faults, at+" is not closed")
			}
			if other, twice := pages[what]; twice {
				faults = append(faults, at+" is in "+other.file+" as well")
			}
			p := page{name, cutSections(body)}
			pages[what] = p
			for _, fault := range p.faults(cat, name, body, line) {
				faults = append(faults, at+" "+fault)
			}
		}
	})
	return pages, faults, err
}

// pageOf is what the page of a type is called.
func pageOf(e core.Entry) string { return kindWord(e.Kind) + " " + e.Name }

// cutPage finds the next page in a text: its body, the line that this begins at, and whether it has an end.
func cutPage(text string, from int) (what, body string, line, next int, closed, ok bool) {
	const open, end = "\n<!-- page:", "\n<!-- /page -->"
	i := strings.Index(text[from:], open)
	if i < 0 {
		return "", "", 0, 0, false, false
	}
	i += from
	what, rest, _ := strings.Cut(text[i+len(open):], " -->\n")
	body, _, closed = strings.Cut(rest, end)
	start := len(text) - len(rest)
	return what, body, 1 + strings.Count(text[:start], "\n"), start + len(body), closed, true
}

var sectionHeading = regexp.MustCompile(`(?m)^#+ (` + strings.Join(pageSections, "|") + `)$`)

func cutSections(body string) map[string]string {
	sections := make(map[string]string)
	all := sectionHeading.FindAllStringSubmatchIndex(body, -1)
	for i, m := range all {
		end := len(body)
		if i+1 < len(all) {
			end = all[i+1][0]
		}
		sections[body[m[2]:m[3]]] = strings.TrimSpace(body[m[1]:end]) + "\n"
	}
	return sections
}

var relativeLink = regexp.MustCompile(`\]\((?:[^h#]|h[^t])`)

// faults are what is wrong with a page, whose body begins at a line of a file.
func (p page) faults(cat *core.Catalog, file, body string, line int) (faults []string) {
	for _, name := range pageSections {
		if strings.TrimSpace(p.sections[name]) == "" {
			faults = append(faults, "lacks "+name)
		}
	}
	if relativeLink.MatchString(body) {
		faults = append(faults, "has a relative link, which leads nowhere from the reference")
	}
	if p.sections["Example"] == "" {
		return faults
	}
	before, rest, _ := strings.Cut(body, "```properties\n")
	example, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		return append(faults, "has no example: a block of properties")
	}
	line += strings.Count(before, "\n") + 1
	for _, f := range checkExample(cat, file, strings.Repeat("\n", line-1)+example) {
		faults = append(faults, "example: "+faultLine(f))
	}
	return faults
}

// checkExample checks a configuration as validate --strict does, with an environment that is empty.
func checkExample(cat *core.Catalog, file, text string) conf.Faults {
	o := conf.FromText(file, text)
	o.Strict, o.Offline = true, true
	o.Env = func(string) (string, bool) { return "", false }
	loaded, faults := conf.Load(o)
	if loaded == nil {
		return faults
	}
	names := loaded.AgentNames()
	if len(names) == 0 {
		return append(faults, conf.Fault{Pos: conf.Pos{File: file}, Severity: conf.Error, Text: "declares no agent"})
	}
	for _, name := range names {
		_, more := loaded.Build(name, cat, o)
		faults = append(faults, more...)
	}
	return faults
}

// walkTexts calls visit with every page of Markdown in a tree that a person writes.
func walkTexts(tree fs.FS, visit func(name, text string) error) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".md"):
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return visit(name, string(text))
	})
}

// referencePage puts the page of the reference together.
func referencePage(e core.Entry, p page) string {
	var b strings.Builder
	b.WriteString(madeBy)
	fmt.Fprintf(&b, "# %s `%s`\n\n%s\n", kindWord(e.Kind), e.Name, e.Doc)
	if len(e.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAlso known as `%s`.\n", strings.Join(e.Aliases, "`, `"))
	}
	if p.file != "" {
		fmt.Fprintf(&b, "\nMore is in [%s](../../%s).\n", p.file, p.file)
	}
	section := func(name, before string) {
		if text := p.sections[name]; text != "" {
			fmt.Fprintf(&b, "\n## %s\n\n%s%s", name, before, text)
		}
	}
	section("Example", "")
	fmt.Fprintf(&b, "\n## Keys\n\n%s", keyTable(e))
	section("Headers", "")
	section("Counters", countersIntro(e.Kind))
	section("Guarantees", "")
	fmt.Fprintf(&b, "\n## Keys of every %s\n\n%s", kindWord(e.Kind), conf.MarkdownTable(commonKeys(e.Kind, conf.Describe(e.New()))))
	return b.String()
}

// countersIntro says what stands before the names of a kind's counters.
func countersIntro(kind conf.Kind) string {
	word := string(kind)
	switch kind {
	case conf.KindSource, conf.KindChannel, conf.KindSink:
	case conf.KindGroup:
		word = string(conf.KindSink)
	default:
		word = string(conf.KindSource)
	}
	return "Besides [those of every " + word + "](counters.md#" + word + "); at `/metrics` each name begins with `millrace_" + word + "_`.\n\n"
}

// commonExtras are the counters that every component of a kind has and Flume has not.
var commonExtras = map[metric.Kind][]flumeCell{
	metric.Source: {
		{name: "events_too_large_total", help: "Events dropped because a channel can never take one that large."},
		{name: "optional_channel_dropped_total", help: "Events an optional channel had no room for."},
	},
	metric.Channel: {
		{name: "capacity_events", help: "Events the channel is made for; 0 is no limit.", gauge: true},
		{name: "events", help: "Events in the channel, with those a sink is delivering.", gauge: true},
		{name: "fill_ratio", help: "Part of the channel's capacity that is in use.", gauge: true},
	},
	metric.Sink: {
		{name: "event_age_seconds", help: "Age of events when they were delivered, from when they were taken in: a histogram.", gauge: true},
		{name: "events_refused_total", help: "Events the far end refused for good."},
	},
}

// countersPage documents the counters that all components have.
func countersPage() string {
	var b strings.Builder
	b.WriteString(madeBy + "# Counters\n\n" +
		"Every component counts; what one kind of component counts besides stands on its page. `/metrics` on the admin port shows the names\n" +
		"below in Prometheus's form, each with the component's name as a label: `millrace_source_events_received_total{source=\"r1\"}`. With\n" +
		"`-Dflume.monitoring.type=http` the names of Flume are in Flume's JSON.\n")
	for _, kind := range []metric.Kind{metric.Source, metric.Channel, metric.Sink} {
		word := strings.ToLower(string(kind))
		fmt.Fprintf(&b, "\n## %s\n\nEach name begins with `millrace_%s_`.\n\n| Name | Flume's | |\n|---|---|---|\n", word, word)
		cells := slices.Concat(flumeCells(&metric.Group{Kind: kind}), commonExtras[kind])
		for _, c := range cells {
			flume := ""
			if c.flume != "" {
				flume = "`" + c.flume + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.name, flume, c.help)
		}
	}
	return b.String()
}
