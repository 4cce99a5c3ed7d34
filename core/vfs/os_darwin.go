package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync is F_FULLFSYNC, which os.File.Sync uses on Darwin.
func datasync(f *os.File) error { return f.Sync() }

// allocate does nothing: F_PREALLOCATE would not enlarge the file.
func allocate(*os.File, int64, int64) error { return nil }

func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
