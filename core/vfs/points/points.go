// Package points names the fault points of taildir → file channel → file_roll:
// every operation at which a crash may leave something half done. The crash
// harnesses (e2e/crash) use it, in this process and in a binary of its own;
// the shipped binary has nothing of it.
//
//	write | sync | create | truncate | allocate | remove | rename | syncdir | mkdir | lock   ×
//	  log     a segment of the file channel; its writes are told apart: head, puts, acks, seal
//	  torn    the copy of a torn tail
//	  pos     the position file; side: the file beside it
//	  out     a file of file_roll's
//	  a directory's own name
package points

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/millrace/millrace/core/vfs"
)

var output = regexp.MustCompile(`^\d+-\d+(\.\w+)?$`)

// Name is a vfs.Namer.
func Name(k vfs.Kind, path string, p []byte) string {
	base := strings.TrimSuffix(filepath.Base(path), ".tmp")
	what := base
	switch {
	case strings.HasSuffix(base, ".wal"):
		what = "log"
		if k == vfs.OpWrite {
			what += " " + logWrite(p)
		}
	case strings.HasSuffix(base, ".torn"):
		what = "torn"
	case strings.HasSuffix(base, ".json.millrace"):
		what = "side"
	case strings.HasSuffix(base, ".json"):
		what = "pos"
	case strings.HasSuffix(base, ".lock"):
		what = "dir"
	case output.MatchString(base):
		what = "out"
	}
	return string(k) + " " + what
}

// logWrite tells what a write to a segment begins with: see package wal.
func logWrite(p []byte) string {
	const frameKind = 8
	if strings.HasPrefix(string(p), "MILLRACE") {
		return "head"
	}
	if len(p) > frameKind {
		switch p[frameKind] {
		case 1:
			return "puts"
		case 2:
			return "acks"
		case 4:
			return "seal"
		}
	}
	return "rest"
}
