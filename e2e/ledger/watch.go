package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is what package paths begin with.
const module = "github.com/millrace/millrace"

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// watch copies the output of go test -json as plain go test would have it, the
// lines of a test only if it fails, and notes the tests that passed.
func watch(name string) error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	verbose := os.Getenv("LEDGER_VERBOSE") != ""
	held := make(map[[2]string][]string)
	var passed []string
	failed := false
	for {
		text, err := in.ReadBytes('\n')
		if len(text) == 0 && err != nil {
			break
		}
		var e event
		if json.Unmarshal(text, &e) != nil || e.Action == "" {
			os.Stdout.Write(text) // what is not of a test: the compiler's
			continue
		}
		top, _, _ := strings.Cut(e.Test, "/")
		key := [2]string{e.Package, top}
		switch {
		case e.Action == "output" || e.Action == "build-output":
			if e.Test == "" || verbose {
				if e.Output != "PASS\n" {
					fmt.Print(e.Output)
				}
			} else {
				held[key] = append(held[key], e.Output)
			}
		case e.Action == "pass" && e.Test != "":
			if e.Test == top {
				passed = append(passed, strings.TrimPrefix(strings.TrimPrefix(e.Package, module), "/")+" "+top)
				delete(held, key)
			}
		case e.Action == "fail":
			failed = true
			for k, lines := range held { // of a package that ended early: all that were running
				if k == key || e.Test == "" && k[0] == e.Package {
					fmt.Print(strings.Join(lines, ""))
					delete(held, k)
				}
			}
		case e.Action == "build-fail":
			failed = true
		case e.Action == "skip" && e.Test == top:
			delete(held, key)
		}
	}
	slices.Sort(passed)
	if err := os.MkdirAll("build", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(notes(name), []byte(strings.Join(passed, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if failed {
		return errors.New("there are tests that failed")
	}
	return nil
}

func notes(name string) string { return filepath.Join("build", "passed-"+name+".txt") }

// ran checks that the tests which prove facts are among those that passed.
// Functions of suites and files of cases have no name of their own there: they
// are not looked for.
func ran(names []string) error {
	found, err := facts()
	if err != nil {
		return err
	}
	passed := make(map[place]bool)
	for _, name := range names {
		text, err := os.ReadFile(notes(name))
		if err != nil {
			return fmt.Errorf("%w: run it first, through ledger watch %s", err, name)
		}
		for line := range strings.Lines(string(text)) {
			dir, test, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			passed[place{dir, test}] = true
		}
	}
	tests := make(map[place]bool)
	bad := 0
	for _, places := range found {
		for _, p := range places {
			if !p.isTest() || tests[p] {
				continue
			}
			tests[p] = true
			if !passed[p] {
				bad++
				fmt.Printf("%s %s proves facts of Flume's tests, and did not run\n", p.Dir, p.Name)
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d tests that the ledger names did not run and pass", bad, len(tests))
	}
	fmt.Printf("all %d tests that the ledger names, for %d facts of Flume's tests in all, ran and passed\n", len(tests), len(found))
	return nil
}
