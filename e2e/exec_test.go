//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// child is a process, told apart from a later one with its pid by its start time.
type child struct{ pid, start string }

// children lists the processes below a process.
func children(t *testing.T, pid int) (all []child) {
	t.Helper()
	parents := []string{strconv.Itoa(pid)}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for len(parents) > 0 {
		var next []string
		for _, file := range stats {
			ppid, c := stat(file)
			if slices.Contains(parents, ppid) {
				all, next = append(all, c), append(next, c.pid)
			}
		}
		parents = next
	}
	return all
}

// stat reads /proc/PID/stat; empty for a process that is gone, or dead and not waited for.
func stat(file string) (ppid string, c child) {
	text, _ := os.ReadFile(file)
	_, rest, ok := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if !ok || f[0] == "Z" {
		return "", child{}
	}
	return f[1], child{filepath.Base(filepath.Dir(file)), f[19]}
}

func (c child) alive() bool {
	_, now := stat("/proc/" + c.pid + "/stat")
	return now == c
}

// has reports whether the process has the file open.
func (c child) has(file string) bool {
	fds, _ := filepath.Glob("/proc/" + c.pid + "/fd/*")
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, _ := os.Readlink(fd)
		return to == file
	})
}

// TestExecTailWithoutTail: an image without tail, as those of containers are.
// `tail -F FILE` works, follows a rotation, and dies with an agent that is killed.
//
// flume: TestFileChannel testInOut
func TestExecTailWithoutTail(t *testing.T) {
	dir := workDir(t)
	log, out := filepath.Join(dir, "in/app.log"), filepath.Join(dir, "out")
	write(t, log, "")
	a := newAgent(t, dir, "exec.conf", vars{"PATH": "/nonexistent"}).start()
	opened := func() (all []child) {
		// What is written before the file is open would be cut to its last ten lines.
		eventually(t, "a child has the file open", func() bool {
			all = children(t, a.cmd.Process.Pid)
			return slices.ContainsFunc(all, func(c child) bool { return c.has(log) })
		})
		return all
	}
	all := lines("app", pick(3000, 30000))
	part := len(all) / 3

	opened()
	appendTo(t, log, joined(all[:part]))
	wait(t, func() bool { return countRolled(out) >= part })
	must(t, os.Rename(log, log+".1"))
	write(t, log, "")
	opened()
	appendTo(t, log, joined(all[part:2*part]))
	wait(t, func() bool { return countRolled(out) >= 2*part })

	first := opened()
	a.kill9()
	eventually(t, "the children of a killed agent are gone", func() bool { return !slices.ContainsFunc(first, child.alive) })

	must(t, os.Truncate(log, 0)) // or the next tail begins with the last ten lines again
	a.start()
	opened()
	appendTo(t, log, joined(all[2*part:]))
	wait(t, func() bool { return countRolled(out) >= len(all) })
	last := opened()
	a.stop()
	eventually(t, "the children of a stopped agent are gone", func() bool { return !slices.ContainsFunc(last, child.alive) })
	same(t, "lines", all, rolled(t, out))
}
