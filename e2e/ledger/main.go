// Command ledger holds docs/flume-tests.md, which says which test of ours proves
// what a test of Flume's expects, against what the tests really do.
//
//	go test -json ./... | go run ./e2e/ledger watch NAME   print as go test does, note what passed
//	go run ./e2e/ledger ran NAME...                        every test that the ledger names is among them
//	go run ./e2e/ledger mutants                            break what facts state: the tests that bear them fail
//
// It is run at the top of the tree, and keeps its notes in build.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "watch":
		return watch(args[1])
	case len(args) > 1 && args[0] == "ran":
		return ran(args[1:])
	case len(args) == 1 && args[0] == "mutants":
		return mutate()
	}
	return errors.New("usage: ledger watch NAME | ran NAME... | mutants")
}
