package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
)

// place is a function of a test: Name in the package of the folder Dir.
type place struct{ Dir, Name string }

var (
	row  = regexp.MustCompile("^\\| `(\\w+\\.\\w+)` \\|.*\\| ([^|]*) \\|$")
	link = regexp.MustCompile("\\[`([^`]+)`\\]\\(\\.\\./([^)]+)\\)")
)

// facts reads the ledger: by the id of a fact, the functions that prove it.
func facts() (map[string][]place, error) {
	f, err := os.Open("docs/flume-tests.md")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := make(map[string][]place)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := row.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		for _, l := range link.FindAllStringSubmatch(m[2], -1) {
			found[m[1]] = append(found[m[1]], place{path.Dir(l[2]), l[1]})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("docs/flume-tests.md has no covered facts")
	}
	return found, nil
}

// isTest reports whether go test runs p by its name. Other places are functions
// of the shared suites and files of cases.
func (p place) isTest() bool {
	return strings.HasPrefix(p.Name, "Test") || strings.HasPrefix(p.Name, "Fuzz")
}
