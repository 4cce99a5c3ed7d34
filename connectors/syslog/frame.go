package syslog

import "bytes"

// framer finds the messages in a stream of bytes. It is Flume's state machine
// (a message ends at a newline, except that one between < and > is data, and
// at eventSize), with counted frames beside it: a number, a blank, and that
// many bytes, which begin with <. Each frame may be of either kind. That of
// multiport_syslogtcp is simpler: plain.
type framer struct {
	size    int  // longest message; the rest of a longer one is further messages
	counted bool // counted frames are recognised
	nul     bool // NUL ends a message as newline does: syslog(3) on a stream socket
	plain   bool // multiport_syslogtcp: every newline ends a message, and a CR before it is data

	left    int // bytes to come of a counted frame that has begun
	scanned int // bytes of the rest that have no end of a message in them
}

// maxCount is the longest number of a counted frame, in digits. A line that
// begins with a longer one is a line.
const maxCount = 7

// next takes a message off rest, which begins where the one before ended. used
// bytes are done with, also without ok, which means that more must be read: at
// most size+maxCount+2 bytes from there. cut: the message is not all of it.
// With end, nothing more will come.
func (f *framer) next(rest []byte, end bool) (line []byte, used int, cut, ok bool) {
	if f.left > 0 {
		return f.piece(rest, 0, end)
	}
	skip := f.blanks(rest)
	rest = rest[skip:]
	if len(rest) == 0 {
		return nil, skip, false, false
	}
	if f.counted && rest[0] >= '1' && rest[0] <= '9' {
		n, width := count(rest)
		if n < 0 && !end {
			return nil, skip, false, false
		}
		if n > 0 {
			f.left, f.scanned = n, 0
			return f.piece(rest[width:], skip+width, end)
		}
	}
	if line, used, cut, ok = f.line(rest, end); ok {
		f.scanned = 0
	}
	return line, skip + used, cut, ok
}

// blanks counts the bytes of empty lines.
func (f *framer) blanks(rest []byte) int {
	for i, c := range rest {
		switch {
		case c == '\n', c == 0 && f.nul:
		case c == '\r' && i+1 < len(rest) && rest[i+1] == '\n':
		default:
			return i
		}
	}
	return len(rest)
}

// count reads the head of a counted frame: its number and its width. 0: it is
// none; below 0: more bytes must tell.
func count(rest []byte) (n, width int) {
	for i, c := range rest {
		switch {
		case c >= '0' && c <= '9' && i < maxCount:
			n = n*10 + int(c-'0')
		case c == ' ' && i+1 == len(rest):
			return -1, 0
		case c == ' ' && rest[i+1] == '<':
			return n, i + 1
		default:
			return 0, 0
		}
	}
	return -1, 0
}

// piece takes what is left of a counted frame, or size bytes of it.
func (f *framer) piece(rest []byte, head int, end bool) (line []byte, used int, cut, ok bool) {
	want := min(f.left, f.size)
	switch {
	case len(rest) >= want:
		f.left -= want
		line = rest[:want]
		if f.left > 0 {
			return line, head + want, true, true
		}
		return trimEnd(line, f.nul), head + want, false, true
	case end:
		f.left = 0
		return rest, head + len(rest), true, len(rest) > 0
	}
	return nil, head, false, false
}

// trimEnd cuts the newline that some senders count as part of the message.
func trimEnd(line []byte, nul bool) []byte {
	if n := len(line); n > 0 && nul && line[n-1] == 0 {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = trimCR(line[:n-1])
	}
	return line
}

func trimCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// line takes a message that ends with a newline.
func (f *framer) line(rest []byte, end bool) (line []byte, used int, cut, ok bool) {
	data := 0
	if !f.plain {
		data = dataStart(rest)
	}
	switch {
	case data >= 0:
	case end:
		return rest, len(rest), false, true
	default:
		return nil, 0, false, false
	}
	size := max(f.size, data)
	from := min(max(data, f.scanned), len(rest))
	i := bytes.IndexByte(rest[from:min(len(rest), size+2)], '\n')
	if f.nul {
		if j := bytes.IndexByte(rest[from:min(len(rest), size+2)], 0); j >= 0 && (i < 0 || j < i) {
			i = j
		}
	}
	if i >= 0 {
		line, used = rest[:from+i], from+i+1
		if rest[from+i] == '\n' && !f.plain {
			line = trimCR(line)
		}
		if len(line) <= size {
			return line, used, false, true
		}
		return rest[:size], size, true, true
	}
	switch {
	case len(rest) > size+1, len(rest) == size+1 && (end || rest[size] != '\r'):
		return rest[:size], size, true, true
	case end:
		return rest, len(rest), false, true
	}
	f.scanned = len(rest)
	return nil, 0, false, false
}

// dataStart returns where a newline begins to end the message: behind the
// priority, or behind the byte that shows that there is none. Below 0: more
// bytes must tell.
func dataStart(rest []byte) int {
	if rest[0] != '<' {
		return 1
	}
	for i := 1; i < len(rest); i++ {
		if c := rest[i]; c < '0' || c > '9' || i == 4 {
			return i + 1
		}
	}
	return -1
}
