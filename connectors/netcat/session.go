package netcat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
)

const (
	smallBlock = 4 << 10
	largeBlock = 64 << 10
	minRead    = 512 // a read into less room is not worth its call
)

// errLine ends a connection: its text has been told to the client.
var errLine = errors.New("bad line")

// session is one connection.
type session struct {
	*server
	c     net.Conn
	text  io.Reader        // what the client sends, in UTF-8 unless raw
	raw   bool             // text is unchecked UTF-8
	reply *charset.Charset // of the answers

	blk      *core.Block
	from, to int // text that is read and not put: blk.Buf[from:to]
	scanned  int // a newline is not before it
	counted  int // the line that begins at from has units up to it
	units    int
	large    bool // the last read filled its block

	answers []byte // UTF-8
	wire    []byte // answers in the client's encoding
}

// serve reads lines until the client ends, does wrong, or the source stops.
func (v *server) serve(c net.Conn) {
	s := &session{server: v, c: c, text: c, raw: v.charset.IsUTF8(), reply: v.charset}
	if !s.raw {
		s.text = v.charset.NewReader(c)
	}
	defer func() {
		if s.blk != nil {
			s.blk.Release()
		}
	}()
	for {
		n, err := s.read()
		if n > 0 {
			if bad := s.take(); bad != nil {
				s.end(bad)
				return
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, charset.ErrMalformed) {
			s.end(s.malformed())
			return
		}
		if s.from < s.to {
			s.dropped.Add(1)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
			s.log.Say(s.env.Log, s.env.Now(), slog.LevelDebug, "read connection", slog.Any("error", err))
		}
		return
	}
}

// end lets the client read why, if its line was bad.
func (s *session) end(err error) {
	if errors.Is(err, errLine) {
		accept.Linger(s.c)
	}
}

// read adds what comes next to the block.
func (s *session) read() (int, error) {
	s.room()
	if s.idle > 0 {
		if err := s.c.SetReadDeadline(time.Now().Add(s.idle)); err != nil {
			return 0, err
		}
		if s.stopping.Load() { // whose deadline was just replaced
			return 0, os.ErrDeadlineExceeded
		}
	}
	n, err := s.text.Read(s.blk.Buf[s.to:])
	s.to += n
	s.large = s.to == len(s.blk.Buf)
	return n, err
}

// room makes sure that there is room to read into. What is read and not put
// moves to the new block, if there must be one.
func (s *session) room() {
	if s.blk != nil && len(s.blk.Buf)-s.to >= minRead {
		return
	}
	rest, size := s.to-s.from, smallBlock
	if s.large {
		size = largeBlock
	}
	blk := core.NewBlock(max(size, 2*rest))
	if s.blk != nil {
		copy(blk.Buf, s.blk.Buf[s.from:s.to])
		s.blk.Release()
	}
	s.blk = blk
	s.scanned, s.counted = s.scanned-s.from, s.counted-s.from
	s.from, s.to = 0, rest
}

// take puts the whole lines that are there. An error ends the connection.
func (s *session) take() error {
	last := bytes.LastIndexByte(s.blk.Buf[s.scanned:s.to], '\n')
	if last < 0 {
		s.scanned = s.to
		return s.unended()
	}
	end := s.scanned + last + 1
	err := s.lines(s.blk.Buf[s.from:end:end])
	s.from, s.scanned, s.counted, s.units = end, s.to, end, 0
	if err == nil && end < s.to {
		return s.unended()
	}
	return err
}

// unended checks the length of a line that has not ended.
func (s *session) unended() error {
	if s.to-s.from < s.maxLine {
		return nil
	}
	n, units := measure(s.blk.Buf[s.counted:s.to])
	s.counted += n
	if s.units += units; s.units >= s.maxLine {
		return s.tooLong()
	}
	return nil
}

// measure counts the UTF-16 units of text, up to a character that is cut.
func measure(text []byte) (n, units int) {
	for n < len(text) && utf8.FullRune(text[n:]) {
		r, size := utf8.DecodeRune(text[n:])
		if n, units = n+size, units+1; r >= 0x10000 {
			units++
		}
	}
	return n, units
}

// lines puts and answers the lines of text, up to one that is bad.
func (s *session) lines(text []byte) error {
	check := s.raw && !utf8.Valid(text)
	for len(text) > 0 {
		n, fault := s.good(text, check)
		if n > 0 {
			s.put(text[:n:n])
		}
		if fault != nil {
			return fault()
		}
		text = text[n:]
		if err := s.answer(); err != nil {
			return err
		}
	}
	return nil
}

// good returns the length of the lines at the front that go into one batch, and
// what to do about the one behind them, if it is bad.
func (s *session) good(text []byte, check bool) (n int, fault func() error) {
	for events := 0; n < len(text); events++ {
		if s.env.MaxEvents > 0 && events == s.env.MaxEvents {
			return n, nil
		}
		line := text[n : n+bytes.IndexByte(text[n:], '\n')+1]
		if len(line) > s.maxLine {
			if _, units := measure(line); units > s.maxLine {
				return n, s.tooLong
			}
		}
		if check && !utf8.Valid(line) {
			return n, s.malformed
		}
		n += len(line)
	}
	return n, nil
}

// put puts lines as one batch or, if there is no room for all, one by one.
func (s *session) put(lines []byte) {
	b := core.NewBatch()
	b.Use(s.blk)
	for rest := lines; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		b.Append(core.Headers{}, rest[:i:i])
		rest = rest[i+1:]
	}
	n := len(b.Events)
	err := s.out.Put(s.puts, b)
	if n > 1 && (errors.Is(err, core.ErrChannelFull) || errors.Is(err, core.ErrTooLarge)) {
		for len(lines) > 0 {
			i := bytes.IndexByte(lines, '\n') + 1
			s.put(lines[:i:i])
			lines = lines[i:]
		}
		return
	}
	switch {
	case err != nil:
		s.log.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "lines refused", slog.Int("lines", n), slog.Any("error", err))
		text := failed(err)
		for range n {
			s.answers = append(s.answers, text...)
		}
	case s.ack:
		for range n {
			s.answers = append(s.answers, "OK\n"...)
		}
	}
}

// failed is the answer to a line that could not be put.
func failed(err error) string {
	if errors.Is(err, context.Canceled) {
		return "FAILED: the agent is stopping\n"
	}
	return "FAILED: " + strings.ReplaceAll(err.Error(), "\n", "; ") + "\n"
}

func (s *session) tooLong() error {
	return s.bad("Event exceeds the maximum length (" + strconv.Itoa(s.maxLine) + " chars, including newline)")
}

func (s *session) malformed() error {
	return s.bad("line is not valid " + s.charset.String())
}

// bad tells the client why the connection ends.
func (s *session) bad(why string) error {
	s.env.Metrics.EventReadFail.Add(1)
	s.log.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "connection closed: bad line",
		slog.String("client", s.c.RemoteAddr().String()), slog.String("why", why))
	s.answers = append(append(append(s.answers, "FAILED: "...), why...), '\n')
	if err := s.answer(); err != nil {
		return err
	}
	return errLine
}

// answer writes the answers that are due.
func (s *session) answer() error {
	if len(s.answers) == 0 {
		return nil
	}
	s.wire = s.reply.Encode(s.wire[:0], s.answers)
	s.reply = s.reply.Unmarked()
	s.answers = s.answers[:0]
	_, err := s.c.Write(s.wire)
	return err
}
