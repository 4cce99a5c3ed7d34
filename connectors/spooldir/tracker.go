package spooldir

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core/vfs"
)

// metaName is the name of Flume's meta file in trackerDir:
//
//	Avro object container file of {"offset": long}, one block for each commit; the last one counts
//	metadata: file (the path being read), avro.schema
//	ours, which Flume does not read: millrace.files, a line for each file that is not finished
//	  <inode> <position of Raw> <of stdout> <of stderr> <stream>
//	where the stream is "flume", the first position is Flume's offset, not yet taken up
//
// Flume writes the header anew whenever it opens the file: where millrace.files
// is missing, Flume was here last, and its offset counts.
const metaName = ".flumespool-main.meta"

const (
	metaSchema = `{"type":"record","name":"TransferStateFileMeta","namespace":"org.apache.flume.serialization","fields":[{"name":"offset","type":"long"}]}`
	fileKey    = "file"
	filesKey   = "millrace.files"
)

// meta is what a meta file says.
type meta struct {
	path    string
	offset  int64 // in the content of path; for Avro that of a sync marker
	flumes  bool  // Flume wrote it
	records []record
}

// record is the place in a file that is not finished.
type record struct {
	ino    uint64
	stream string // without the source's name
	done   lines.Positions
}

// readMeta reads a meta file. Of one that is damaged behind its header it
// returns the last offset before that, and the error.
func readMeta(r io.Reader) (m meta, err error) {
	const block = 1 << 10 // Flume's have two or ten bytes
	c, err := openContainer(r, block)
	if err != nil {
		return m, err
	}
	m.path = c.meta[fileKey]
	if c.meta["avro.schema"] == "" || m.path == "" {
		return m, errors.New("it names no file")
	}
	ours, isOurs := c.meta[filesKey]
	m.flumes = !isOurs
	if m.records, err = parseRecords(ours); err != nil {
		return meta{}, err
	}
	for {
		count, size, err := c.next()
		if err == io.EOF { //nolint:errorlint // a wrapped one is no end
			return m, nil
		}
		if err != nil {
			return m, err
		}
		blk, data, err := c.block(size)
		if err != nil {
			return m, err
		}
		for ; count > 0 && err == nil; count-- {
			switch n, size := binary.Varint(data); {
			case size <= 0:
				err = io.ErrUnexpectedEOF
			case n < 0:
				err = fmt.Errorf("an offset of %d", n)
			default:
				m.offset, data = n, data[size:]
			}
		}
		blk.Release()
		if err != nil {
			return m, err
		}
	}
}

func parseRecords(text string) (all []record, err error) {
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 2+lines.Streams)
		if len(words) < 2+lines.Streams || words[1+lines.Streams] == "" {
			return nil, fmt.Errorf("%s has a line of %d words", filesKey, len(words))
		}
		r := record{stream: words[1+lines.Streams]}
		if r.ino, err = strconv.ParseUint(words[0], 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", filesKey, err)
		}
		for s := range r.done {
			if r.done[s], err = strconv.ParseInt(words[1+s], 10, 64); err == nil && r.done[s] < 0 {
				err = fmt.Errorf("position %d", r.done[s])
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filesKey, err)
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// appendMeta writes a meta file of one block, as Flume's is when it has opened a file.
func appendMeta(to []byte, m *meta, sync [16]byte) []byte {
	text := func(s string) {
		to = binary.AppendVarint(to, int64(len(s)))
		to = append(to, s...)
	}
	to = append(to, "Obj\x01"...)
	entries := int64(2)
	if !m.flumes {
		entries++
	}
	to = binary.AppendVarint(to, entries)
	text("avro.schema")
	text(metaSchema)
	text(fileKey)
	text(m.path)
	if !m.flumes {
		var b strings.Builder
		for _, r := range m.records {
			fmt.Fprintf(&b, "%d", r.ino)
			for _, p := range r.done {
				fmt.Fprintf(&b, " %d", p)
			}
			fmt.Fprintf(&b, " %s\n", r.stream)
		}
		text(filesKey)
		text(b.String())
	}
	to = binary.AppendVarint(to, 0)
	to = append(to, sync[:]...)
	offset := binary.AppendVarint(nil, m.offset)
	to = binary.AppendVarint(to, 1)
	to = binary.AppendVarint(to, int64(len(offset)))
	to = append(to, offset...)
	return append(to, sync[:]...)
}

// tracker keeps the meta file.
type tracker struct {
	fs    vfs.FS
	log   *slog.Logger
	path  string
	sync  [16]byte
	there bool   // the file
	saved string // what was last written into it
}

// load reads the meta file. An empty or damaged one is no reason not to start.
func (k *tracker) load() (m meta, err error) {
	_, _ = rand.Read(k.sync[:]) // never fails
	f, err := k.fs.OpenFile(k.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return meta{}, nil
	}
	if err != nil {
		return meta{}, fmt.Errorf("read meta file: %w", err)
	}
	defer f.Close()
	k.there = true
	if fi, err := f.Stat(); err == nil && fi.Size() == 0 {
		return meta{}, nil // Flume stopped between making and writing it
	}
	if m, err = readMeta(f); err != nil {
		k.log.Warn("meta file is damaged: what a channel does not know of may come twice", "file", k.path, "reading", m.path, "offset", m.offset, "error", err)
	}
	return m, nil
}

// save writes m, or, with no record, removes the file.
func (k *tracker) save(m *meta) error {
	if len(m.records) == 0 {
		if !k.there {
			return nil
		}
		if err := k.fs.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove meta file: %w", err)
		}
		k.there, k.saved = false, ""
		return nil
	}
	data := appendMeta(nil, m, k.sync)
	if string(data) == k.saved {
		return nil
	}
	if err := vfs.WriteFile(k.fs, k.path, data, 0o644); err != nil {
		return fmt.Errorf("write meta file: %w", err)
	}
	k.there, k.saved = true, string(data)
	return nil
}

// finishedIn lists the tracker files below dir: of what they are, with suffix,
// and when they were made.
func finishedIn(fsys vfs.FS, dir string, found map[string]fs.FileInfo) error {
	var walk func(rel string) error
	walk = func(rel string) error {
		entries, err := fsys.ReadDir(filepath.Join(dir, rel))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := filepath.Join(rel, e.Name())
			if e.IsDir() {
				if err := walk(name); err != nil {
					return err
				}
			} else if fi, err := e.Info(); err == nil {
				found[name] = fi
			}
		}
		return nil
	}
	return walk("")
}
