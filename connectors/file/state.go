package file

import (
	"time"

	"github.com/millrace/millrace/connectors/internal/resume"
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

func (s *state) encode() []byte {
	b := append(make([]byte, 0, 32+len(s.name)+len(s.suffix)+len(s.format)), stateVersion)
	opened := s.opened.UnixMilli()
	return resume.Append(b, []*int64{&s.length, &s.events, &opened}, []*string{&s.name, &s.suffix, &s.format})
}

func decodeState(b []byte) (s state, err error) {
	if len(b) == 0 || b[0] != stateVersion {
		return s, resume.ErrState
	}
	var opened int64
	err = resume.Decode(b[1:], []*int64{&s.length, &s.events, &opened}, []*string{&s.name, &s.suffix, &s.format})
	if err != nil || s.name == "" {
		return state{}, resume.ErrState
	}
	s.opened = time.UnixMilli(opened)
	return s, nil
}
