package fileid

import (
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core/vfs"
)

// Born returns when an open file was made, in ns since 1970; 0 if the file
// system does not keep it. No two files have the same inode and the same time.
func Born(f vfs.File) int64 {
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
