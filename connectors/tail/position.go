package tail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core/vfs"
)

// record is what is kept of a file between two runs.
type record struct {
	id     fileid.ID
	anyDev bool // of a position file of Flume's, which knows no devices
	path   string
	stream string // empty: the position begins a stream of its own
	pos    int64
	tail   fileid.Print
	past   []fileid.Print   // at most maxPast
	born   int64            // when the file was made, ns
	mtime  int64            // of the file when it was last read to its end, ns
	texts  *lines.Positions // where lines are joined: pos is the least of them
	real   string           // where the path led to, if that was a symbolic link
	copied bool             // it is a copy of what had the path
	taken  bool             // a file has it
}

// book keeps the position file, and the file beside it.
type book struct {
	fs   vfs.FS
	path string
	last string // digest of the position file as it is
	// maybe are digests of position files whose writing failed when they were
	// perhaps in place already: after a crash one of them may be there.
	maybe []string
	saved []byte // what the file beside it holds
}

// maxPositions limits what is read: about half a million files.
const maxPositions = 64 << 20

// absent stands for the digest of a position file that is not there.
const absent = "absent"

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func (b *book) side() string { return b.path + ".millrace" }

// load returns what is known of files. Damage is logged, with its place, and
// costs only what it hits. old is read if there is no position file at all.
func (b *book) load(log *slog.Logger, old string) ([]*record, error) {
	data, err := read(b.fs, b.path)
	if err != nil {
		return nil, err
	}
	beside, err := read(b.fs, b.side())
	if err != nil {
		return nil, err
	}
	b.last = absent
	if data != nil {
		b.last = digest(data)
	}
	path := b.path
	if data == nil && beside == nil && old != "" {
		if data, err = read(b.fs, old); err != nil || data == nil {
			return nil, err
		}
		path = old
		log.Info("positions taken over", "from", old)
	}
	entries, damage := parsePositions(data)
	for _, d := range damage.notes {
		log.Warn("position file is damaged", "file", path, "at", d.offset, "error", d.err)
	}
	if beside == nil {
		return entries, nil
	}
	known, written, err := parseSide(beside)
	if err != nil {
		log.Warn("file beside the position file is damaged and not used", "file", b.side(), "error", err)
		return entries, nil
	}
	for _, w := range written {
		if w == b.last {
			return known, nil
		}
	}
	log.Warn("position file was changed by somebody else: its positions are used", "file", path)
	return merge(log, known, entries, damage.cut), nil
}

// merge obeys whoever changed the position file: a position that differs, or is
// gone, begins a new stream. What lies behind a cut is not known to be gone.
func merge(log *slog.Logger, known, entries []*record, cut bool) []*record {
	byIno := make(map[uint64][]*record)
	for _, e := range entries {
		byIno[e.id.Ino] = append(byIno[e.id.Ino], e)
	}
	var all []*record
	for _, k := range known {
		var e *record
		for _, x := range byIno[k.id.Ino] {
			if e == nil || x.path == k.path {
				e = x
			}
		}
		switch {
		case e == nil && cut:
			all = append(all, k)
		case e == nil:
			log.Info("position removed from the position file", "file", k.path, "was", k.pos)
		case e.pos != k.pos:
			log.Info("position changed in the position file", "file", k.path, "was", k.pos, "now", e.pos)
		default:
			e.stream = k.stream // not touched
			all = append(all, k)
		}
	}
	for _, e := range entries {
		if e.stream == "" {
			all = append(all, e)
		}
	}
	return all
}

// read returns a file's content, nil if it is not there.
func read(fsys vfs.FS, name string) ([]byte, error) {
	fi, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && fi.Size() > maxPositions {
		err = fmt.Errorf("%d bytes are too many", fi.Size())
	}
	var data []byte
	if err == nil {
		data, err = vfs.ReadFile(fsys, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read position file %s: %w", name, err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// save writes both files if they differ from what is there. The file beside
// comes first, with the digests of the position file before and after: a crash
// between the two must not look as if somebody had changed it.
func (b *book) save(records []*record) error {
	data := appendPositions(nil, records)
	sum := digest(data)
	files := appendRecords(nil, records)
	if sum == b.last && len(b.maybe) == 0 && bytes.Equal(files, b.saved) {
		return nil
	}
	digests := `"` + strings.Join(append([]string{sum, b.last}, b.maybe...), `","`) + `"`
	side := append([]byte(`{"format":1,"positions":[`+digests+`],"files":`), files...)
	side = append(side, '}', '\n')
	if err := vfs.WriteFile(b.fs, b.side(), side, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", b.side(), err)
	}
	if sum != b.last || len(b.maybe) > 0 {
		if err := vfs.WriteFile(b.fs, b.path, data, 0o644); err != nil {
			if !slices.Contains(b.maybe, sum) {
				b.maybe = append(b.maybe[max(0, len(b.maybe)-mostMaybe):], sum)
			}
			return fmt.Errorf("write position file: %w", err)
		}
	}
	b.last, b.saved, b.maybe = sum, files, nil
	return nil
}

// mostMaybe bounds what is remembered of a volume that takes nothing for long.
const mostMaybe = 63

// appendPositions writes the position file as Gson does for Flume.
func appendPositions(to []byte, records []*record) []byte {
	to = append(to, '[')
	for i, r := range records {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(to, `{"inode":`...)
		to = strconv.AppendUint(to, r.id.Ino, 10)
		to = append(to, `,"pos":`...)
		to = strconv.AppendInt(to, r.pos, 10)
		to = append(to, `,"file":`...)
		to = appendGson(to, r.path)
		to = append(to, '}')
	}
	return append(to, ']')
}

func appendRecords(to []byte, records []*record) []byte {
	number := func(key string, n int64) {
		to = append(to, key...)
		to = strconv.AppendInt(to, n, 10)
	}
	to = append(to, '[')
	for i, r := range records {
		if i > 0 {
			to = append(to, ",\n"...)
		}
		to = append(to, `{"inode":`...)
		to = strconv.AppendUint(to, r.id.Ino, 10)
		if !r.anyDev {
			to = append(to, `,"dev":`...)
			to = strconv.AppendUint(to, r.id.Dev, 10)
		}
		number(`,"pos":`, r.pos)
		number(`,"off":`, r.tail.Off)
		number(`,"len":`, int64(r.tail.N))
		number(`,"sum":`, int64(r.tail.Sum))
		for i, p := range r.past {
			if i == 0 {
				to = append(to, `,"past":"`...)
			}
			for _, n := range [...]int64{p.Off, int64(p.N), int64(p.Sum)} {
				to = strconv.AppendInt(to, n, 10)
				to = append(to, ' ')
			}
			if i == len(r.past)-1 {
				to[len(to)-1] = '"'
			}
		}
		if r.texts != nil {
			to = append(to, `,"texts":"`...)
			for _, n := range r.texts {
				to = strconv.AppendInt(to, n, 10)
				to = append(to, ' ')
			}
			to[len(to)-1] = '"'
		}
		number(`,"born":`, r.born)
		number(`,"mtime":`, r.mtime)
		to = append(to, `,"stream":`...)
		to = appendGson(to, r.stream)
		to = append(to, `,"file":`...)
		to = appendGson(to, r.path)
		if r.real != "" {
			to = append(to, `,"real":`...)
			to = appendGson(to, r.real)
		}
		if r.copied {
			to = append(to, `,"copied":true`...)
		}
		to = append(to, '}')
	}
	return append(to, ']')
}

const hexDigits = "0123456789abcdef"

// appendGson appends s as Gson writes a string, with its escapes for HTML.
func appendGson(to []byte, s string) []byte {
	to = append(to, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c == '\t':
			to = append(to, `\t`...)
		case c == '\b':
			to = append(to, `\b`...)
		case c == '\n':
			to = append(to, `\n`...)
		case c == '\r':
			to = append(to, `\r`...)
		case c == '\f':
			to = append(to, `\f`...)
		case c < 0x20 || c == '<' || c == '>' || c == '&' || c == '=' || c == '\'':
			to = append(to, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			to = append(to, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == '\u2028' || r == '\u2029' {
				to = append(to, `\u202`...)
				to = append(to, hexDigits[r&15])
			} else {
				to = utf8.AppendRune(to, r)
			}
			i += n
			continue
		}
		i++
	}
	return append(to, '"')
}

// damage is what was wrong with a position file.
type damage struct {
	notes []note
	cut   bool // what follows the last note could not be read
}

type note struct {
	offset int64
	err    error
}

func (d *damage) add(at int64, err error) {
	const most = 10 // of a file that is no position file at all the rest says nothing new
	if len(d.notes) < most {
		d.notes = append(d.notes, note{at, err})
	}
}

// parsePositions reads what can be read of a position file. An empty one is
// one with no positions: Flume writes it so.
func parsePositions(data []byte) (entries []*record, bad damage) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, bad
	}
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '[' {
		bad.add(0, errors.Join(errors.New("begins with no array"), err))
		bad.cut = true
		return nil, bad
	}
	for {
		at := dec.InputOffset()
		if dec.PeekKind() == ']' {
			return entries, bad
		}
		v, err := dec.ReadValue()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			bad.add(at, err)
			bad.cut = true
			return entries, bad
		}
		e, err := parseRecord(v)
		if err != nil {
			bad.add(at, err)
			continue
		}
		e.anyDev = true
		e.stream, e.real, e.tail, e.past, e.texts, e.born, e.mtime, e.copied = "", "", fileid.Print{}, nil, nil, 0, 0, false
		entries = append(entries, e)
	}
}

// parseRecord reads one object of either file.
func parseRecord(v jsontext.Value) (*record, error) {
	if v.Kind() != '{' {
		return nil, errors.New("not an object")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	r := &record{anyDev: true}
	var ino, pos, path bool
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // before the next read, which ends the token's life
		v, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		switch key {
		case "inode":
			r.id.Ino, err = strconv.ParseUint(scalar(v), 10, 64)
			ino = true
		case "dev":
			r.id.Dev, err = strconv.ParseUint(scalar(v), 10, 64)
			r.anyDev = false
		case "pos":
			r.pos, err = parseOffset(v)
			pos = true
		case "off":
			r.tail.Off, err = parseOffset(v)
		case "len":
			var n uint64
			n, err = strconv.ParseUint(scalar(v), 10, 16)
			r.tail.N = int(n)
		case "sum":
			var n uint64
			n, err = strconv.ParseUint(scalar(v), 10, 32)
			r.tail.Sum = uint32(n)
		case "past":
			r.past, err = parsePast(scalar(v))
		case "texts":
			r.texts, err = parseTexts(scalar(v))
		case "born":
			r.born, err = strconv.ParseInt(scalar(v), 10, 64)
		case "mtime":
			r.mtime, err = strconv.ParseInt(scalar(v), 10, 64)
		case "stream":
			r.stream = scalar(v)
		case "real":
			r.real = scalar(v)
		case "copied":
			r.copied = v.Kind() == 't'
		case "file":
			if v.Kind() != '"' {
				return nil, errors.New("file is not a string")
			}
			r.path = scalar(v)
			path = true
		}
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", key, err)
		}
	}
	if !ino || !pos || !path {
		return nil, errors.New("inode, pos or file is missing")
	}
	if !r.tail.Possible() {
		return nil, errors.New("len is too large")
	}
	return r, nil
}

// maxPast is how many earlier fingerprints are kept between runs.
const maxPast = 2

// parseTexts reads the positions of texts.
func parseTexts(text string) (*lines.Positions, error) {
	words := strings.Fields(text)
	var p lines.Positions
	if len(words) != len(p) {
		return nil, errors.New("not a list of positions")
	}
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 63)
		if err != nil {
			return nil, err
		}
		p[i] = int64(n)
	}
	return &p, nil
}

// parsePast reads earlier fingerprints: three numbers each.
func parsePast(text string) ([]fileid.Print, error) {
	words := strings.Fields(text)
	if len(words)%3 != 0 || len(words) > 3*maxPast {
		return nil, errors.New("not a list of fingerprints")
	}
	var past []fileid.Print
	for w := range slices.Chunk(words, 3) {
		off, err := strconv.ParseInt(w[0], 10, 64)
		n, err1 := strconv.ParseUint(w[1], 10, 16)
		sum, err2 := strconv.ParseUint(w[2], 10, 32)
		p := fileid.Print{Off: off, N: int(n), Sum: uint32(sum)}
		if err = errors.Join(err, err1, err2); err != nil || !p.Possible() {
			return nil, errors.Join(errors.New("not a fingerprint"), err)
		}
		past = append(past, p)
	}
	return past, nil
}

// scalar is the text of a string or a number; Gson reads the one for the other.
func scalar(v jsontext.Value) string {
	if v.Kind() != '"' {
		return string(v)
	}
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil && !utf8.Valid(v) {
		err = nil // only that, and it is replaced
	}
	if err != nil {
		return ""
	}
	return string(text)
}

func parseOffset(v jsontext.Value) (int64, error) {
	n, err := strconv.ParseInt(scalar(v), 10, 64)
	if err == nil && n < 0 {
		err = errors.New("negative")
	}
	return n, err
}

// parseSide reads the file beside the position file, whole or not at all.
func parseSide(data []byte) (records []*record, written []string, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, err
	}
	list := func(each func(jsontext.Value) error) error {
		if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '[' {
			return errors.Join(errors.New("an array is missing"), err)
		}
		for dec.PeekKind() != ']' {
			v, err := dec.ReadValue()
			if err == nil {
				err = each(v)
			}
			if err != nil {
				return fmt.Errorf("at %d: %w", dec.InputOffset(), err)
			}
		}
		_, err := dec.ReadToken()
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		switch key := name.String(); key {
		case "format":
			v, err := dec.ReadValue()
			if err != nil {
				return nil, nil, err
			}
			if string(v) != "1" {
				return nil, nil, fmt.Errorf("format %s is newer than this program", v)
			}
		case "positions":
			err = list(func(v jsontext.Value) error {
				written = append(written, scalar(v))
				return nil
			})
		case "files":
			err = list(func(v jsontext.Value) error {
				r, err := parseRecord(v)
				if err == nil {
					records = append(records, r)
				}
				return err
			})
		default:
			err = dec.SkipValue()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, err
	}
	return records, written, nil
}

// record is what is kept of f.
func (f *file) record() *record {
	r := &record{id: f.id, path: f.path, real: f.real, copied: f.copied, stream: f.st.id, pos: f.st.stored(), tail: f.st.tail, born: f.st.born}
	r.past = f.st.past[max(0, len(f.st.past)-maxPast):]
	if f.st.joined {
		p := f.st.positions()
		r.pos, r.texts = p.Safe(), &p
	}
	if !f.read.IsZero() {
		r.mtime = f.read.UnixNano()
	}
	return r
}

// save writes the positions of all files, those not yet found again too.
func (t *tailer) save() error {
	records := make([]*record, 0, len(t.files)+len(t.pending))
	for _, f := range t.files {
		if !f.ignored && !f.released {
			records = append(records, f.record())
		}
	}
	for _, r := range t.pending {
		if !r.taken {
			records = append(records, r)
		}
	}
	t.saveAt = t.env.Now().Add(t.c.writeInterval)
	if err := t.book.save(records); err != nil {
		return err
	}
	for _, f := range t.files {
		if !f.ignored && !f.released {
			f.st.kept = f.st.tail.N > 0
		}
	}
	return nil
}

// saveFirst writes a new stream down before anything of it is sent: what the
// channels know of a stream that no file of positions has is worth nothing after
// a crash. A failure may pass: it tries a few times, and goes on then, since
// lines that may come twice are better than none.
func (t *tailer) saveFirst(st *stream) {
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		if t.trySave(); st.kept || st.pos > 0 || pause > 200*time.Millisecond {
			return
		}
		select {
		case <-time.After(pause):
		case <-t.ended:
			return
		}
	}
}

// trySave calls save while running: an error is counted, and said when it is new.
func (t *tailer) trySave() {
	err := t.save()
	if err == nil {
		t.changed, t.unsaved = false, false
		return
	}
	t.env.Metrics.GenericProcessingFail.Add(1)
	if !t.unsaved {
		t.log.Error("positions are not written: after a crash lines may come twice", "error", err)
	}
	t.unsaved = true
}
