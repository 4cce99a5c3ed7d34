package sidecar

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const factsList = "# id, component, state, why, fact\n" +
	"TestA.one\tchannel\tcovered\t\tputs | takes\n" +
	"TestA.two\tchannel\tcovered\t\ttwice\n" +
	"TestB.one\tsource\tcovered\t\tin a row\n" +
	"TestB.two\tsource\tcovered\t\tin testdata\n" +
	"TestB.three\tsource\tdiffers\tsince it is better\tthree\n" +
	"TestC.one\tsink\topen\tsink avro\tfour\n"

var factsTests = map[string]string{
	"a/a_test.go": "package a\n\n// TestPut puts.\n//\n// flume: TestA one two\n// flume: TestB one\nfunc TestPut(t *testing.T) {\n}\n\n" +
		"func TestTake(t *testing.T) {\n\tx() // flume: TestA two\n}\n",
	"a/testdata/cases.txt": "# flume: TestB two\na case\n",
	"a/a.go":               "package a\n\n// no test, but it has flume: TestNo thing\n// flume: TestNo thing\nfunc f() {}\n",
}

// The page says where each fact is proved, and how many there are.
func TestFacts(t *testing.T) {
	pages := map[string]string{factsData: factsList}
	for name, text := range factsTests {
		pages[name] = text
	}
	dir := tree(t, pages)
	changes, faults, err := docChanges(Catalog(), dir)
	if err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	i := slices.IndexFunc(changes, func(c docChange) bool { return c.name == factsPage })
	if i < 0 {
		t.Fatal("no page")
	}
	for _, want := range []string{
		"| channel | 2 | 0 | 0 | 0 |\n| source | 2 | 1 | 0 | 0 |\n| sink | 0 | 0 | 0 | 1 |\n| **all** | 4 | 1 | 0 | 1 |\n",
		"| `TestA.one` | puts \\| takes | [`TestPut`](../a/a_test.go) |\n",
		"| `TestA.two` | twice | [`TestPut`](../a/a_test.go), [`TestTake`](../a/a_test.go) |\n",
		"| `TestB.one` | in a row | [`TestPut`](../a/a_test.go) |\n",
		"| `TestB.two` | in testdata | [`cases.txt`](../a/testdata/cases.txt) |\n",
		"| `TestB.three` | three | Different: since it is better |\n",
		"| `TestC.one` | four | Open: sink avro |\n",
	} {
		if !strings.Contains(changes[i].text, want) {
			t.Errorf("lacks %s:\n%s", want, changes[i].text)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, factsData), []byte(strings.Replace(factsList, "TestB.one\tsource\tcovered", "TestB.one\tsource\tsomehow", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, said := call(t, nil, "docs", "--check", dir); code != exitFailed || !strings.Contains(said, "there is no state somehow") {
		t.Errorf("%d %s", code, said)
	}
}

func TestFactsFaults(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"TestD.one\tsink\tcovered\t\tx", "TestD.one: is covered, and no test bears it"},
		{"TestA.one\tsink\tcovered\t\tx", "TestA.one: stands twice"},
		{"TestD.one\tsink\tdone\t\tx", "there is no state done"},
		{"TestD.one\tsink\tnone\t\tx", "has no reason"},
		{"TestD.one\tsink\tnone\tbecause\t", "does not say of what, or what"},
		{"TestD.one\tsink\tnone\tbecause", "has 4 cells, not 5"},
	} {
		pages := map[string]string{factsData: factsList + c.line + "\n"}
		for name, text := range factsTests {
			pages[name] = text
		}
		_, faults, err := docChanges(Catalog(), tree(t, pages))
		if err != nil || len(faults) != 1 || !strings.Contains(faults[0], ":8: ") || !strings.Contains(faults[0], c.want) {
			t.Errorf("%s: %q, %v", c.line, faults, err)
		}
	}
	pages := map[string]string{factsData: strings.Replace(factsList, "TestB.two\tsource\tcovered\t", "TestB.two\tsource\tnone\tbecause", 1)}
	for name, text := range factsTests {
		pages[name] = text
	}
	_, faults, err := docChanges(Catalog(), tree(t, pages))
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0], "cases.txt: bears flume: TestB.two, which "+factsData+" does not have as covered") {
		t.Errorf("%q, %v", faults, err)
	}
}
