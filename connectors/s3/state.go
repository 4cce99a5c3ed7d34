package s3

import "github.com/millrace/millrace/connectors/internal/resume"

// state is what a mark, and the object's file of state in the spool, say of an
// object that is not published: up to where its events are acked, what it is to
// be called, how to go on with it.
type state struct {
	length int64 // bytes; what is beyond was not acked
	events int64 // in them
	bodies int64 // bytes of their bodies: what rollSize counts
	opened int64 // when it was begun, in ms since 1970
	seq    int64 // its number in the spool, and in its key
	part   int64 // bytes of each part but the last
	lost   int64 // parts that are nowhere: what follows them, part n from 0, has the number n+1-lost in the upload
	final  bool  // nothing more comes

	spool  string // id of the spool that has its bytes
	where  string // endpoint and bucket
	key    string
	target string // path and prefix as expanded, and the id of a schema, with a byte 0 between
	format string // how an encoder goes on with it
	upload string // id of its multipart upload; empty: none is recorded
}

// parts is how many parts are whole.
func (s *state) parts() int { return int(s.length / s.part) }

const (
	stateVersion = 1
	lossyVersion = 2        // with lost behind the other numbers; written only where something is
	maxState     = 64 << 10 // bytes
)

func (s *state) numbers(version byte) []*int64 {
	all := []*int64{&s.length, &s.events, &s.bodies, &s.opened, &s.seq, &s.part, &s.lost}
	if version == lossyVersion {
		return all
	}
	return all[:6]
}

func (s *state) texts() []*string {
	return []*string{&s.spool, &s.where, &s.key, &s.target, &s.format, &s.upload}
}

// encode: first the version, and whether it is final.
func (s *state) encode() []byte {
	b := append(make([]byte, 0, 256), stateVersion, 0)
	if s.lost > 0 {
		b[0] = lossyVersion
	}
	if s.final {
		b[1] = 1
	}
	return resume.Append(b, s.numbers(b[0]), s.texts())
}

func decodeState(b []byte) (state, error) {
	if len(b) < 2 || len(b) > maxState || b[0] != stateVersion && b[0] != lossyVersion || b[1] > 1 {
		return state{}, resume.ErrState
	}
	s := state{final: b[1] == 1}
	err := resume.Decode(b[2:], s.numbers(b[0]), s.texts())
	if err != nil || s.key == "" || s.spool == "" || s.part < 1 || s.length/s.part > maxParts || s.lost > s.length/s.part+1 {
		return state{}, resume.ErrState
	}
	return s, nil
}
