// Package crash proves what docs/guarantees.md promises for taildir → file
// channel → file_roll, by ending it at every fault point (core/vfs/points) and
// comparing what is in the files with what was in the log:
//
//   - in one process, on a disk in memory (flow_test.go): the process killed, the
//     power lost, an error returned, the disk full. Runs with all Go tests; longer
//     with MILLRACE_CRASH=n (n times) or by make crash
//   - as a whole (process_test.go, -tags crashpoints): a real binary ends itself by
//     SIGKILL at a fault point or is killed at a random moment, and is started again
//
// What is compared are numbered lines with checksums: each is there once, in
// order, and nothing else; files that are rolled by count are equal byte for byte
// to those of an undisturbed run.
package crash
