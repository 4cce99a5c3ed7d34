package sidecar

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

func TestEveryTypeHasAPage(t *testing.T) {
	cat := Catalog()
	pages, _, err := readPages(cat, os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for _, e := range cat.Entries(k.kind) {
			if _, ok := pages[pageOf(e)]; !ok {
				t.Errorf("no README has a page of it: <!-- page:%s -->", pageOf(e))
			}
			delete(pages, pageOf(e))
		}
	}
	for what, p := range pages {
		t.Errorf("%s has a page of %s, which is not in the catalogue", p.file, what)
	}
}

var counterRow = regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\|")

// checkCounters compares the counters of a page with those that the component of a running agent shows. In the
// configurations under testdata/components source, channel and sink are called r1, c1 and k1.
func checkCounters(t *testing.T, r *running, p page, e core.Entry) {
	t.Helper()
	kind, name := "source", "r1"
	switch e.Kind {
	case conf.KindChannel:
		kind, name = "channel", "c1"
	case conf.KindSink, conf.KindGroup:
		kind, name = "sink", "k1"
	}
	line := regexp.MustCompile(`(?m)^millrace_` + kind + `_([a-z_0-9]+)\{` + kind + `="` + name + `"`)
	var common []string
	for _, row := range counterRow.FindAllStringSubmatch(countersPage(), -1) {
		common = append(common, row[1])
	}
	var documented []string
	for _, row := range counterRow.FindAllStringSubmatch(p.sections["Counters"], -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(documented)
	shown := func() (own []string) {
		for _, m := range line.FindAllStringSubmatch(r.get("/metrics"), -1) {
			name := m[1]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && slices.Contains(common, base) {
					name = base
				}
			}
			// One of its own may be called as that of another kind.
			if (!slices.Contains(common, name) || slices.Contains(documented, name)) && !slices.Contains(own, name) {
				own = append(own, name)
			}
		}
		slices.Sort(own)
		return own
	}
	suite.Eventually(t, "the counters of its page", func() bool {
		have := shown()
		return !slices.ContainsFunc(documented, func(d string) bool { return !slices.Contains(have, d) })
	})
	if have := shown(); !slices.Equal(have, documented) {
		t.Errorf("it counts %v, and its page has %v", have, documented)
	}
}

const goodPage = "# x\n\n<!-- page:source seq -->\n## Example\n\n```properties\na1.sources = r1\na1.channels = c1\na1.sources.r1.type = seq\n" +
	"a1.sources.r1.channels = c1\na1.channels.c1.type = memory\na1.sinks = k1\na1.sinks.k1.type = null\na1.sinks.k1.channel = c1\n```\n\n### Headers\n\nNone.\n\n## Counters\n\nNone of its own.\n\n" +
	"## Guarantees\n\nNone.\n<!-- /page -->\n"

func TestPages(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"good", goodPage, ""},
		{"no section", strings.Replace(goodPage, "## Counters", "## Other", 1), "README.md:3: page:source seq lacks Counters"},
		{"empty section", strings.Replace(goodPage, "None.\n<!--", "\n<!--", 1), "lacks Guarantees"},
		{"no block", strings.Replace(goodPage, "```properties", "```text", 1), "has no example"},
		{"faulty example", strings.Replace(goodPage, "= seq", "= sequ", 1), "README.md:9: error: a1.sources.r1.type"},
		{"only a warning", strings.Replace(goodPage, "= memory", "= memory\na1.channels.c1.capactiy = 5", 1), "README.md:12: error: a1.channels.c1.capactiy: unknown key"},
		{"no agent", strings.ReplaceAll(goodPage, "a1.", ""), "declares no agent"},
		{"relative link", strings.Replace(goodPage, "None.", "[x](../y.md)", 1), "relative link"},
		{"absolute link", strings.Replace(goodPage, "None.", "[x](https://example.org) and [y](#z)", 1), ""},
		{"not closed", strings.Replace(goodPage, "<!-- /page -->", "", 1), "is not closed"},
		{"twice", goodPage + goodPage, "is in README.md as well"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pages, faults, err := readPages(Catalog(), os.DirFS(tree(t, map[string]string{"README.md": c.text})))
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(faults, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("want %q: %s", c.want, all)
			}
			if c.name == "good" && pages["source seq"].sections["Headers"] != "None.\n" {
				t.Errorf("%q", pages["source seq"].sections)
			}
		})
	}
}

func FuzzPages(f *testing.F) {
	f.Add(goodPage)
	f.Add("\n<!-- page:\n<!-- /page -->\n<!-- page:a -->\n")
	f.Fuzz(func(t *testing.T, text string) {
		for from := 0; ; {
			_, body, _, next, _, ok := cutPage(text, from)
			if !ok {
				return
			}
			if next <= from {
				t.Fatal("it does not go on")
			}
			from = next
			cutSections(body)
		}
	})
}
