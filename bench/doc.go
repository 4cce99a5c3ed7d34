// Command bench measures the whole process beside what the machine can do.
//
// Each row runs a plain loop (the physical limit), Millrace, and a peer where one
// is installed, in turn, several rounds in one go, and prints medians and their
// ratios. Times on a shared machine wander; ratios within one run wander less. The
// input is lines of 200 bytes; every run checks that all of them arrived.
//
// The Go benchmarks beside it time the journey of a batch inside one process.
package main
