package flumelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/millrace/millrace/core/vfs"
)

// readAhead is one sequential read.
const readAhead = 1 << 20

// logFile is one data file, and a cursor in it.
type logFile struct {
	path   string
	number uint32
	size   int64
	file   vfs.File

	off  int64 // of the next record
	buf  []byte
	at   int64 // offset of buf[0]
	head record
	here pointer // of head
	done bool
	r    *Report
}

var dataName = regexp.MustCompile(`^log-(\d+)$`)

// list finds the data files of dirs and reads their metadata.
func list(fsys vfs.FS, dirs []string, r *Report) (files []*logFile, err error) {
	for _, dir := range dirs {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			m := dataName.FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			n, err := strconv.ParseUint(m[1], 10, 31)
			if err != nil {
				continue // none of Flume's: its numbers fit
			}
			f := &logFile{path: filepath.Join(dir, e.Name()), number: uint32(n), r: r}
			info, err := fsys.Stat(f.path)
			if err != nil {
				return nil, err
			}
			if f.size = info.Size(); f.size == 0 {
				continue
			}
			if err := f.meta(fsys); err != nil {
				return nil, fmt.Errorf("%s: %w", f.path, err)
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *logFile) int { return int(a.number) - int(b.number) })
	for i := 1; i < len(files); i++ {
		if files[i].number == files[i-1].number {
			return nil, fmt.Errorf("%s and %s have the same number: the directories of two channels have been mixed", files[i-1].path, files[i].path)
		}
	}
	return files, nil
}

// meta checks that f is of the format that is read here, in clear text.
func (f *logFile) meta(fsys vfs.FS) error {
	var text []byte
	err := fs.ErrNotExist
	for _, suffix := range []string{".meta", ".meta.tmp", ".meta.old"} {
		if text, err = vfs.ReadFile(fsys, f.path+suffix); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("has no .meta file: either that is lost, or the file was written by Flume before 1.3, whose format is not read here; let a Flume 1.11 start on the directory and stop")
	}
	if err != nil {
		return err
	}
	m, _, err := delimited(text)
	version, number, encrypted := uint64(0), uint64(0), false
	if err == nil {
		err = message(m).each(func(x field) {
			switch x.number {
			case 1:
				version = x.value
			case 2:
				number = x.value
			case 5:
				encrypted = true
			}
		})
	}
	switch {
	case err != nil:
		return errors.New("its .meta file cannot be read")
	case version != 3:
		return fmt.Errorf("is of format %d, and only 3 is read here (Flume 1.3 to 1.11)", version)
	case number != uint64(f.number):
		return fmt.Errorf("its .meta file is of log-%d", number)
	case encrypted:
		return errors.New("is encrypted, which is not read here: let Flume deliver it")
	}
	return nil
}

// window returns at least n bytes from off on, less at the end of the file.
func (f *logFile) window(off, n int64) ([]byte, error) {
	if off < f.at || off+n > f.at+int64(len(f.buf)) {
		want := min(f.size-off, max(n, readAhead))
		if want <= 0 {
			return nil, nil
		}
		if int64(cap(f.buf)) < want || int64(cap(f.buf)) > 8*readAhead && want <= readAhead {
			f.buf = make([]byte, want)
		}
		f.buf, f.at = f.buf[:want], off
		got, err := f.file.ReadAt(f.buf, off)
		f.buf = f.buf[:got]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return f.buf[off-f.at:], nil
}

// at reads the record at off; ok is false where none is, and op tells why.
// Its memory is valid until the next call.
func (f *logFile) record(off int64) (op byte, payload []byte, err error) {
	b, err := f.window(off, framing)
	if err != nil || len(b) < framing {
		return opEnd, nil, err
	}
	if op = b[0]; op != opRecord && op != opNoop {
		return op, nil, nil
	}
	n := int64(binary.BigEndian.Uint32(b[1:]))
	if off+framing+n > f.size {
		return opEnd, nil, nil // torn: written when Flume was killed, never committed
	}
	if b, err = f.window(off, framing+n); err != nil {
		return op, nil, err
	}
	if int64(len(b)) < framing+n {
		return opEnd, nil, nil
	}
	return op, b[framing : framing+n : framing+n], nil
}

// next moves the cursor to the next record that can be read.
func (f *logFile) next() error {
	for !f.done {
		op, payload, err := f.record(f.off)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		off := f.off
		f.off += framing + int64(len(payload))
		switch op {
		case opRecord:
			rec, err := parse(payload)
			if err != nil {
				f.r.problem(f.path, off, "a record cannot be read: what it said is lost")
				continue
			}
			f.head, f.here = rec, pointer{f.number, uint32(off)}
			return nil
		case opNoop:
			f.r.Disabled++
		case opEnd:
			f.done = true
		default:
			f.r.problem(f.path, off, fmt.Sprintf("byte %#02x is no record: the rest of the file is passed over, as Flume does", op))
			f.done = true
		}
	}
	return nil
}

func (f *logFile) open(fsys vfs.FS) (err error) {
	f.file, err = fsys.OpenFile(f.path, os.O_RDONLY, 0)
	return err
}

// event reads the event at off.
func (f *logFile) event(off uint32) (r record, op byte, err error) {
	op, payload, err := f.record(int64(off))
	if err != nil || op != opRecord {
		return r, op, err
	}
	r, err = parse(payload)
	return r, op, err
}
