package sidecar

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// madeBy heads every file that docs writes whole; only such files does it ever remove.
const madeBy = "<!-- Made by `millrace docs`; do not edit. -->\n"

const referenceDir = "docs/reference"

func (p *Program) docs(args []string) int {
	f := newFlags(p, "docs")
	check := false
	f.Bool(&check, "check", "", "write nothing; fail if anything is stale")
	if code, ok := f.parse(args); !ok {
		return code
	}
	dir := "."
	switch f.set.NArg() {
	case 0:
	case 1:
		dir = f.set.Arg(0)
	default:
		return f.wrong("one directory, please")
	}
	changes, faults, err := docChanges(Catalog(), dir)
	if err != nil {
		p.complain("docs: " + err.Error())
		return exitFailed
	}
	for _, fault := range faults {
		p.complain("docs: " + fault)
	}
	for _, c := range changes {
		fmt.Fprintln(p.Stdout, c.name)
		if check {
			continue
		}
		if err := c.apply(dir); err != nil {
			p.complain("docs: " + err.Error())
			return exitFailed
		}
	}
	if check && len(changes) > 0 {
		p.complain(fmt.Sprintf("docs: %s stale; run docs", count(len(changes), "file")))
		return exitFailed
	}
	if len(faults) > 0 {
		return exitFailed
	}
	return exitOK
}

// docChange is one file that is not as it should be.
type docChange struct {
	name string // below the tree, with slashes
	text string // empty: remove it
}

func (c docChange) apply(dir string) error {
	name := filepath.Join(dir, filepath.FromSlash(c.name))
	if c.text == "" {
		return os.Remove(name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(c.text), 0o644)
}

// docChanges compares the tree at dir with what the catalogue says. faults are what is wrong with what people wrote; it
// goes on without.
func docChanges(cat *core.Catalog, dir string) (changes []docChange, faults []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return nil, nil, fmt.Errorf("%s is not the root of a source tree: %w", dir, err)
	}
	tree := os.DirFS(dir)
	pages, faults, err := readPages(cat, tree)
	if err != nil {
		return nil, nil, err
	}
	want := wholeFiles(cat, pages)
	uncovered, err := coverageFile(cat, tree, want)
	if err != nil {
		return nil, nil, err
	}
	unproved, err := factsFile(tree, want)
	if err != nil {
		return nil, nil, err
	}
	faults = slices.Concat(faults, uncovered, unproved)
	err = walkTexts(tree, func(name, old string) error {
		if _, whole := want[name]; whole {
			return nil
		}
		if strings.HasPrefix(old, madeBy) && strings.HasPrefix(name, referenceDir+"/") {
			want[name] = "" // of a type that is no more
			return nil
		}
		filled, err := fill(cat, strings.Repeat("../", strings.Count(name, "/"))+referenceDir+"/", old)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if filled != old {
			want[name] = filled
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for name, text := range want {
		if old, err := fs.ReadFile(tree, name); err != nil || text == "" || string(old) != text {
			changes = append(changes, docChange{name, text})
		}
	}
	slices.SortFunc(changes, func(a, b docChange) int { return strings.Compare(a.name, b.name) })
	return changes, faults, nil
}

// wholeFiles are the files that docs writes from first to last.
func wholeFiles(cat *core.Catalog, pages map[string]page) map[string]string {
	files := make(map[string]string)
	for _, k := range kinds {
		for _, e := range cat.Entries(k.kind) {
			files[referenceDir+"/"+referenceFile(e)] = referencePage(e, pages[pageOf(e)])
		}
	}
	files[referenceDir+"/README.md"] = referenceIndex(cat)
	files[referenceDir+"/counters.md"] = countersPage()
	files["connectors/README.md"] = madeBy + "# The catalogue\n\n" +
		"Every source, channel and sink, and what stands between them; `millrace help source taildir` shows the same reference in a terminal.\n\n" +
		catalogue(cat, "../"+referenceDir+"/")
	return files
}

func referenceFile(e core.Entry) string { return kindWord(e.Kind) + "-" + e.Name + ".md" }

func keyTable(e core.Entry) string {
	docs := conf.Describe(e.New())
	if len(docs) == 0 {
		return "It has no keys of its own.\n"
	}
	return conf.MarkdownTable(docs)
}

func referenceIndex(cat *core.Catalog) string {
	var b strings.Builder
	b.WriteString(madeBy + "# Reference\n\n" + catalogue(cat, "") + "\nWhat all of them count is on [a page of its own](counters.md); how the keys compare with Flume's, in [coverage](../coverage.md).\n")
	b.WriteString("\n## What is not here\n\nTypes of Apache Flume and of well-known plug-ins, and what to do instead.\n\n| | Type | Instead |\n|---|---|---|\n")
	for _, a := range cat.Absent {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", kindWord(a.Kind), a.Names[0], a.Instead)
	}
	return b.String()
}

// catalogue is the table of all types, with links to their pages below path.
func catalogue(cat *core.Catalog, path string) string {
	var b strings.Builder
	b.WriteString("| | Type | |\n|---|---|---|\n")
	for _, k := range kinds {
		for _, e := range cat.Entries(k.kind) {
			fmt.Fprintf(&b, "| %s | [`%s`](%s%s) | %s |\n", k.words[0], e.Name, path, referenceFile(e), e.Doc)
		}
	}
	return b.String()
}

// fill writes tables between the markers of a page, from which path leads to the reference:
//
//	<!-- keys:source taildir --> ... <!-- /keys -->
//	<!-- catalogue --> ... <!-- /catalogue -->
func fill(cat *core.Catalog, path, text string) (string, error) {
	var b strings.Builder
	for {
		head, mark, rest, ok := cutMarker(text)
		if !ok {
			b.WriteString(text)
			return b.String(), nil
		}
		name, what, _ := strings.Cut(mark, ":")
		end := "<!-- /" + name + " -->"
		_, tail, closed := strings.Cut(rest, end)
		if !closed {
			return "", fmt.Errorf("marker %q has no %s", mark, end)
		}
		table, err := markedTable(cat, path, name, what)
		if err != nil {
			return "", err
		}
		b.WriteString(head + "<!-- " + mark + " -->\n\n" + table + "\n" + end)
		text = tail
	}
}

// cutMarker finds the first opening marker that stands at the beginning of a line.
func cutMarker(text string) (head, mark, rest string, ok bool) {
	for from := 0; ; {
		i := strings.Index(text[from:], "<!-- ")
		if i < 0 {
			return "", "", "", false
		}
		i += from
		mark, rest, ok = strings.Cut(text[i+len("<!-- "):], " -->")
		if ok && (i == 0 || text[i-1] == '\n') && (strings.HasPrefix(mark, "keys:") || mark == "catalogue") {
			return text[:i], mark, rest, true
		}
		from = i + 1
	}
}

func markedTable(cat *core.Catalog, path, name, what string) (string, error) {
	if name == "catalogue" {
		return catalogue(cat, path), nil
	}
	word, typ, _ := strings.Cut(what, " ")
	for _, k := range kinds {
		if !slices.Contains(k.words, word) {
			continue
		}
		for _, e := range cat.Entries(k.kind) {
			if e.Name == typ {
				return keyTable(e), nil
			}
		}
	}
	return "", fmt.Errorf("marker keys:%s names no type of the catalogue", what)
}
