package hdfs

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

// state is what a mark says of a file that is not published: up to where its
// events are acked, and what it is to be called.
type state struct {
	length int64 // bytes; what is beyond was not acked
	events int64 // in them; none: the file is to go away
	number int64 // of the final name: base, number, ext
	where  string
	temp   string // path while it is in use
	base   string
	ext    string

	cut time.Time // when the file system began to cut it to that; not in the mark
}

func (s *state) final() string { return s.base + strconv.FormatInt(s.number, 10) + s.ext }

const stateVersion = 1

// encode: version, then numbers as varints and texts with their lengths.
func (s *state) encode() []byte {
	b := make([]byte, 0, 40+len(s.where)+len(s.temp)+len(s.base)+len(s.ext))
	b = append(b, stateVersion)
	for _, n := range [...]int64{s.length, s.events, s.number} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, text := range [...]string{s.where, s.temp, s.base, s.ext} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

var errState = errors.New("not a resume state of this version")

func decodeState(b []byte) (s state, err error) {
	if len(b) == 0 || b[0] != stateVersion {
		return s, errState
	}
	b = b[1:]
	for _, p := range [...]*int64{&s.length, &s.events, &s.number} {
		n, used := binary.Uvarint(b)
		if used <= 0 || int64(n) < 0 {
			return state{}, errState
		}
		*p, b = int64(n), b[used:]
	}
	for _, p := range [...]*string{&s.where, &s.temp, &s.base, &s.ext} {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return state{}, errState
		}
		*p, b = string(b[used:used+int(n)]), b[used+int(n):]
	}
	if len(b) > 0 || s.temp == "" || s.base == "" {
		return state{}, errState
	}
	return s, nil
}
