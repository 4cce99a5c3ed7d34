package s3

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/core/vfs"
)

// spool is the directory with what is not yet in the store. Of object n:
//
//	n.0 n.1 ...   its bytes, a part a file; those that the store has are gone
//	n.state       its state and a checksum; gone when the object is published
//
// and "id", which tells this directory from another at the same place, and "lock".
type spool struct {
	fs   vfs.FS
	dir  string
	id   string
	lock io.Closer
}

const idBytes = 4

func openSpool(fsys vfs.FS, dir string) (*spool, error) {
	p := &spool{fs: fsys, dir: dir}
	if err := vfs.MakeDir(fsys, dir, 0o755); err != nil {
		return nil, fmt.Errorf("make spool: %w (s3.spoolDirectory says where it is)", err)
	}
	var err error
	if p.lock, err = fsys.Lock(filepath.Join(dir, "lock")); err != nil {
		return nil, fmt.Errorf("lock spool %s: %w (each sink has a s3.spoolDirectory of its own)", dir, err)
	}
	if err = p.identify(); err != nil {
		_ = p.lock.Close() // the error above is what counts
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return p, nil
}

func (p *spool) identify() error {
	name := filepath.Join(p.dir, "id")
	text, err := vfs.ReadFile(p.fs, name)
	if err == nil {
		if raw, bad := hex.DecodeString(string(text)); bad == nil && len(raw) == idBytes {
			p.id = string(text)
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var raw [idBytes]byte
	rand.Read(raw[:])
	p.id = hex.EncodeToString(raw[:])
	return vfs.WriteFile(p.fs, name, []byte(p.id), 0o644)
}

// part is the name of the file with part n, from 0, of an object.
func (p *spool) part(seq int64, n int) string {
	return filepath.Join(p.dir, strconv.FormatInt(seq, 10)+"."+strconv.Itoa(n))
}

func (p *spool) state(seq int64) string {
	return filepath.Join(p.dir, strconv.FormatInt(seq, 10)+".state")
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed is what a state file holds: a state that is written without a sync may
// be there in part after a power failure, and must not be taken for one.
func sealed(st *state) []byte {
	b := st.encode()
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func unseal(data []byte) (state, error) {
	n := len(data) - crc32.Size
	if n < 0 || binary.BigEndian.Uint32(data[n:]) != crc32.Checksum(data[:n], castagnoli) {
		return state{}, resume.ErrState
	}
	return decodeState(data[:n])
}

// record writes an object's state; not yet durably, but where it names an upload
// what was durable stays so: the parts of that upload are no longer here.
func (p *spool) record(st *state) error {
	name := p.state(st.seq)
	tmp := name + ".tmp"
	f, err := p.fs.OpenFile(tmp, writeFlags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed(st))
	if err == nil && st.upload != "" {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = p.fs.Rename(tmp, name)
	}
	return err
}

// sync writes an object's state durably; not of one from another spool.
func (p *spool) sync(st *state) error {
	if st.seq < 0 {
		return nil
	}
	return vfs.WriteFile(p.fs, p.state(st.seq), sealed(st), 0o644)
}

// has reports whether the file of a part has at least that many bytes.
func (p *spool) has(seq int64, n int, size int64) bool {
	info, err := p.fs.Stat(p.part(seq, n))
	return err == nil && info.Size() >= size
}

// remove removes a file, if it is there.
func (p *spool) remove(name string) error {
	if err := p.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forget removes what there is of an object: first the state, without which the
// rest means nothing.
func (p *spool) forget(seq int64, parts int) error {
	err := p.remove(p.state(seq))
	for n := 0; n <= parts && err == nil; n++ {
		err = p.remove(p.part(seq, n))
	}
	return err
}

// setAside moves what there is of an object to where no start looks for it.
func (p *spool) setAside(seq int64, parts int) (dir string, err error) {
	dir = filepath.Join(p.dir, "refused")
	if err := vfs.MakeDir(p.fs, dir, 0o755); err != nil {
		return dir, err
	}
	names := []string{p.state(seq)}
	for n := 0; n <= parts; n++ {
		names = append(names, p.part(seq, n))
	}
	for _, name := range names {
		if err := p.fs.Rename(name, filepath.Join(dir, filepath.Base(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
	}
	return dir, p.fs.SyncDir(dir)
}

// content is what a spool holds.
type content struct {
	states map[int64]state
	files  map[int64][]int // the parts of each object
}

// read lists the spool. Files that are not its own are left alone.
func (p *spool) read() (content, error) {
	c := content{map[int64]state{}, map[int64][]int{}}
	list, err := p.fs.ReadDir(p.dir)
	if err != nil {
		return c, fmt.Errorf("read spool: %w", err)
	}
	for _, entry := range list {
		number, kind, _ := strings.Cut(entry.Name(), ".")
		seq, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			continue
		}
		name := filepath.Join(p.dir, entry.Name())
		part, err := strconv.Atoi(kind)
		switch {
		case err == nil && part >= 0:
			c.files[seq] = append(c.files[seq], part)
		case kind == "state":
			data, err := vfs.ReadFile(p.fs, name)
			if err != nil {
				return c, fmt.Errorf("read spool: %w", err)
			}
			// After a power failure its text may be gone, and the channel's mark
			// has it: that it is there says that the object is not published.
			st, err := unseal(data)
			if err != nil {
				st = state{seq: seq}
			}
			c.states[seq] = st
		case kind == "state.tmp":
			if err := p.remove(name); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}
