package sidecar

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/core/conf"
)

const (
	factsData = "docs/coverage/flume-tests.tsv"
	factsPage = "docs/flume-tests.md"
)

// What becomes of a fact that a test of Flume's states.
const (
	factCovered = "covered" // by the tests of ours that bear its id
	factDiffers = "differs" // on purpose
	factNone    = "none"    // does not apply
	factOpen    = "open"    // its component is not in this version yet
)

// factStates are the states in the order of the page's columns, with their headings.
var factStates = [][2]string{
	{factCovered, "covered"}, {factDiffers, "different on purpose"}, {factNone, "not applicable"}, {factOpen, "open"},
}

// fact is one line of the list: what one method of Flume's tests expects.
type fact struct {
	line                       int
	id                         string // Class.method
	component, state, why, say string
}

func readFacts(text string) (facts []fact, faults []string) {
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != 5 {
			faults = append(faults, fmt.Sprintf("%s:%d: has %d cells, not 5", factsData, i+1, len(cells)))
			continue
		}
		facts = append(facts, fact{i + 1, cells[0], cells[1], cells[2], cells[3], cells[4]})
	}
	return facts, faults
}

// mark is how a test says which facts of Flume's it proves: a comment
// "flume: Class method method", in Go source behind //, in testdata behind #.
var (
	mark       = regexp.MustCompile(`(?://|#) flume: (\w+)((?: \w+)+)$`)
	markedFunc = regexp.MustCompile(`^func (?:\([^)]*\) )?(\w+)\(`)
)

// marked finds the tests that bear ids. A mark belongs to the function that it stands in or above.
func marked(tree fs.FS) (map[string][]string, error) {
	found := make(map[string][]string)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != ".":
			return fs.SkipDir
		case d.IsDir() || !bearsMarks(name):
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		var in string
		var above []string // ids of the comment that is being read
		for line := range strings.SplitSeq(string(text), "\n") {
			m := mark.FindStringSubmatch(line)
			f := markedFunc.FindStringSubmatch(line)
			switch {
			case m != nil:
				for method := range strings.FieldsSeq(m[2]) {
					above = append(above, m[1]+"."+method)
				}
				if strings.HasPrefix(line, "//") {
					continue
				}
			case f != nil:
				in = f[1]
			case strings.HasPrefix(line, "//"):
				continue
			}
			for _, id := range above {
				if at := strings.TrimSuffix(name+" "+in, " "); !slices.Contains(found[id], at) {
					found[id] = append(found[id], at)
				}
			}
			above = nil
		}
		return nil
	})
	return found, err
}

// bearsMarks tells which files are tests: those of Go, the shared suites, and testdata.
func bearsMarks(name string) bool {
	dir := path.Dir(name)
	return strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".go") && strings.HasSuffix(dir, "test") ||
		strings.HasSuffix(name, ".txt") && slices.Contains(strings.Split(dir, "/"), "testdata")
}

// factsFile adds the page of what became of each fact to files. faults are what
// does not hold: a covered fact that no test bears, a reason that is missing.
func factsFile(tree fs.FS, files map[string]string) (faults []string, err error) {
	text, err := fs.ReadFile(tree, factsData)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a tree without the list
	}
	if err != nil {
		return nil, err
	}
	tests, err := marked(tree)
	if err != nil {
		return nil, err
	}
	facts, faults := readFacts(string(text))
	states := make(map[string]string)
	counts := make(map[string]map[string]int)
	var order []string // components as they come
	for _, f := range facts {
		if why := f.fault(states, tests); why != "" {
			faults = append(faults, fmt.Sprintf("%s:%d: %s: %s", factsData, f.line, f.id, why))
		}
		states[f.id] = f.state
		if counts[f.component] == nil {
			counts[f.component] = make(map[string]int)
			order = append(order, f.component)
		}
		counts[f.component][f.state]++
	}
	for _, id := range slices.Sorted(maps.Keys(tests)) {
		if states[id] != factCovered {
			faults = append(faults, fmt.Sprintf("%s: bears flume: %s, which %s does not have as covered", tests[id][0], id, factsData))
		}
	}
	files[factsPage] = factsText(facts, order, counts, tests)
	return faults, nil
}

func (f fact) fault(before map[string]string, tests map[string][]string) string {
	known := slices.ContainsFunc(factStates, func(s [2]string) bool { return s[0] == f.state })
	switch {
	case before[f.id] != "":
		return "stands twice"
	case !known:
		return "there is no state " + f.state
	case f.state == factCovered && len(tests[f.id]) == 0:
		return "is covered, and no test bears it"
	case f.state == factCovered && f.why != "":
		return "is covered, and has a reason why not"
	case f.state != factCovered && f.why == "":
		return "has no reason"
	case f.component == "" || f.say == "":
		return "does not say of what, or what"
	}
	return ""
}

func factsText(facts []fact, order []string, counts map[string]map[string]int, tests map[string][]string) string {
	var b strings.Builder
	list := strings.TrimPrefix(factsData, "docs/")
	b.WriteString(madeBy + "# Flume's own tests\n\n" +
		"What the unit tests of Flume 1.11 expect, test by test, and what became of it here. The list is [" + list + "](" + list + ").\n" +
		"A fact is covered when a test of ours bears its id in a comment, `flume: Class method`; the check fails where none does.\n" +
		"What is different on purpose is explained in [compatibility.md](compatibility.md) as well.\n\n| |")
	row := func(name string, cell func(state string) int) {
		b.WriteString("| " + name + " |")
		for _, s := range factStates {
			fmt.Fprintf(&b, " %d |", cell(s[0]))
		}
		b.WriteByte('\n')
	}
	for _, s := range factStates {
		b.WriteString(" " + s[1] + " |")
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(factStates)) + "|\n")
	for _, name := range order {
		row(name, func(state string) int { return counts[name][state] })
	}
	row("**all**", func(state string) (n int) {
		for _, c := range counts {
			n += c[state]
		}
		return n
	})
	for _, name := range order {
		fmt.Fprintf(&b, "\n## %s\n\n| Flume's test | Fact | |\n|---|---|---|\n", name)
		for _, f := range facts {
			if f.component == name {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.id, conf.TableCell(f.say), f.became(tests[f.id]))
			}
		}
	}
	return b.String()
}

func (f fact) became(tests []string) string {
	switch f.state {
	case factCovered:
		var links []string
		for _, t := range tests {
			file, name, _ := strings.Cut(t, " ")
			if name == "" {
				name = path.Base(file)
			}
			links = append(links, fmt.Sprintf("[`%s`](../%s)", name, file))
		}
		return strings.Join(links, ", ")
	case factDiffers:
		return "Different: " + conf.TableCell(f.why)
	case factNone:
		return "Not applicable: " + conf.TableCell(f.why)
	}
	return "Open: " + conf.TableCell(f.why)
}
