package file

import (
	"encoding/binary"
	"errors"
	"time"
)

// state is what a mark says: up to where which file is acked.
type state struct {
	name   string // path, without suffix
	suffix string // the name ends with it as long as the file is in use
	length int64
	events int64
	opened time.Time // with milliseconds
	format string    // the serializer's own state
}

const stateVersion = 1

// encode: version, then numbers as varints and texts with their lengths.
func (s *state) encode() []byte {
	b := make([]byte, 0, 32+len(s.name)+len(s.suffix)+len(s.format))
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, uint64(s.length))
	b = binary.AppendUvarint(b, uint64(s.events))
	b = binary.AppendUvarint(b, uint64(s.opened.UnixMilli()))
	for _, text := range [...]string{s.name, s.suffix, s.format} {
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
	var opened int64
	for _, p := range [...]*int64{&s.length, &s.events, &opened} {
		n, used := binary.Uvarint(b)
		if used <= 0 || int64(n) < 0 {
			return state{}, errState
		}
		*p, b = int64(n), b[used:]
	}
	s.opened = time.UnixMilli(opened)
	for _, p := range [...]*string{&s.name, &s.suffix, &s.format} {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return state{}, errState
		}
		*p, b = string(b[used:used+int(n)]), b[used+int(n):]
	}
	if len(b) > 0 || s.name == "" {
		return state{}, errState
	}
	return s, nil
}
