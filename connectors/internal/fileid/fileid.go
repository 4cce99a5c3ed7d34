package fileid

import (
	"hash/crc32"
	"io"
	"io/fs"
	"syscall"

	"github.com/millrace/millrace/core/vfs"
)

// ID is what stays of a file when it is renamed. It is used again when the
// file is gone.
type ID struct{ Dev, Ino uint64 }

// Of returns the ID of the file that fi, of a Stat, tells of.
func Of(fi fs.FileInfo) ID {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return ID{uint64(st.Dev), st.Ino} //nolint:unconvert // int32 on darwin
	case *vfs.MemStat:
		return ID{0, st.Ino}
	}
	return ID{}
}

// Print is a fingerprint: the checksum of the N bytes before an offset. The
// bytes before a position tell more than the first ones of a file: those are
// often the same in every file of a program. The zero value fits every file.
type Print struct {
	Off int64
	N   int
	Sum uint32
}

// Bytes is how many bytes a fingerprint has, where there are so many.
const Bytes = 256

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Take reads the fingerprint of f at off.
func Take(f io.ReaderAt, off int64) (Print, error) { return take(f, off, Bytes) }

// PrintOf returns the fingerprint at off of a file of which read was read, and
// ends there.
func PrintOf(off int64, read []byte) Print {
	read = read[max(0, len(read)-Bytes):]
	return Print{off, len(read), crc32.Checksum(read, castagnoli)}
}

func take(f io.ReaderAt, off int64, n int) (Print, error) {
	var buf [Bytes]byte
	n = int(min(int64(n), off))
	if k, err := f.ReadAt(buf[:n], off-int64(n)); k < n {
		return Print{}, err
	}
	return PrintOf(off, buf[:n]), nil
}

// Possible reports whether p can be a fingerprint at all.
func (p Print) Possible() bool { return p.N >= 0 && p.N <= Bytes && int64(p.N) <= p.Off }

// In reports whether f has the bytes.
func (p Print) In(f io.ReaderAt) bool {
	if p.N == 0 {
		return true
	}
	q, err := take(f, p.Off, p.N)
	return err == nil && q == p
}
