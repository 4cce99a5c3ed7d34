package hdfs

import (
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/resume"
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

func (s *state) numbers() []*int64 { return []*int64{&s.length, &s.events, &s.number} }
func (s *state) texts() []*string  { return []*string{&s.where, &s.temp, &s.base, &s.ext} }

func (s *state) encode() []byte {
	b := append(make([]byte, 0, 40+len(s.where)+len(s.temp)+len(s.base)+len(s.ext)), stateVersion)
	return resume.Append(b, s.numbers(), s.texts())
}

func decodeState(b []byte) (s state, err error) {
	if len(b) == 0 || b[0] != stateVersion {
		return s, resume.ErrState
	}
	if err = resume.Decode(b[1:], s.numbers(), s.texts()); err != nil || s.temp == "" || s.base == "" {
		return state{}, resume.ErrState
	}
	return s, nil
}
