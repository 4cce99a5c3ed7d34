package tail

import (
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core/vfs"
)

// born returns when an open file was made, in ns; 0 if the file system does
// not keep it. It tells an inode that is used again from a rename where the
// content does not.
func born(f vfs.File) int64 {
	d, ok := f.(interface{ Fd() uintptr })
	if !ok {
		return 0
	}
	var st unix.Statx_t
	if err := unix.Statx(int(d.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}
