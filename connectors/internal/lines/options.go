package lines

import (
	"regexp"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// Options are the keys that line sources share. All joiners of one Options
// belong to one goroutine: they share their memory.
type Options struct {
	container string
	only      string // the container's stream that is wanted
	start     *regexp.Regexp
	cont      *regexp.Regexp
	end       *regexp.Regexp
	negate    bool
	maxLines  int
	maxBytes  int64
	timeout   time.Duration

	scratch scratch
}

// Values of the key container.
const (
	none   = "none"
	auto   = "auto"
	docker = "docker"
	cri    = "cri"
)

// all is the value of container.stream that leaves nothing out.
const all = "all"

// Keys binds the keys, for a source's own Keys.
func (o *Options) Keys(k *conf.Keys) {
	k.String(&o.container, "container", none, "Lines are those of a container runtime: Docker's JSON files (docker), those of CRI, that is Kubernetes with containerd or CRI-O (cri), or either, line by line (auto). The body is the container's own line, joined where the runtime cut it; headers stream (stdout, stderr) and timestamp (ms). Other lines are passed on as they are, and counted.").Must(conf.OneOf(none, auto, docker, cri)).Since("1.0")
	k.String(&o.only, "container.stream", all, "Only lines of that stream of the container.").Must(conf.OneOf(all, stdout, stderr)).Since("1.0")
	k.Regexp(&o.start, "multiline.startPattern", "", "Join lines: one that matches (anywhere in it; anchor with ^) begins an event, others continue it.").Since("1.0")
	k.Regexp(&o.cont, "multiline.continuePattern", "", "Join lines: one that matches continues the event, others begin one. With startPattern, a line that matches that begins one in any case.").Since("1.0")
	k.Regexp(&o.end, "multiline.endPattern", "", "Join lines: one that matches is the last of its event.").Since("1.0")
	k.Bool(&o.negate, "multiline.negate", false, "The one pattern that is set matches where it does not: a startPattern of ^\\s then is what begins without a blank.").Since("1.0")
	k.Int(&o.maxLines, "multiline.maxLines", 500, "Lines in one event at most; the next ones are another event.").Must(conf.Min(1)).Since("1.0")
	k.Bytes(&o.maxBytes, "multiline.maxBytes", 1<<20, "Bytes in one event of several lines at most; the next ones are another event.").Must(conf.Range(1, 256<<20)).Since("1.0")
	k.Millis(&o.timeout, "multiline.timeout", 2*time.Second, "How long an event (or a line that a container runtime cut) waits for its next line; then it is put as it is.").Must(conf.Min(1)).Since("1.0")
	k.Check(o.check)
}

func (o *Options) check(r *conf.Report) {
	patterns := 0
	for _, re := range []*regexp.Regexp{o.start, o.cont, o.end} {
		if re != nil {
			patterns++
		}
	}
	if o.negate && patterns > 1 {
		r.Error("multiline.negate", "goes with one pattern, and %d are set", patterns)
	}
	if patterns == 0 {
		for _, key := range []string{"multiline.negate", "multiline.maxLines", "multiline.maxBytes"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect without multiline.startPattern, continuePattern or endPattern")
			}
		}
		if o.container == none && r.IsSet("multiline.timeout") {
			r.Warn("multiline.timeout", "has no effect without a pattern or container")
		}
	}
	if o.container == none && o.only != all {
		r.Warn("container.stream", "has no effect without container")
	}
}

// Plain reports whether there is nothing to do: each line is an event, and no Joiner is needed.
func (o *Options) Plain() bool { return o.container == none && !o.multi() }

// multi reports whether lines are joined by pattern.
func (o *Options) multi() bool { return o.start != nil || o.cont != nil || o.end != nil }

// begins reports whether a line begins an event where one is unfinished.
func (o *Options) begins(line []byte) bool {
	switch {
	case o.start != nil && o.start.Match(line) != o.negate:
		return true
	case o.cont != nil:
		return o.cont.Match(line) == o.negate
	default:
		return false
	}
}

// ends reports whether a line is the last of its event.
func (o *Options) ends(line []byte) bool { return o.end != nil && o.end.Match(line) != o.negate }

// scratch is memory that joiners use in turn.
type scratch struct {
	events []Event
	arena  []byte   // bodies of events
	text   []byte   // of a line, unescaped
	free   [][]byte // buffers of unfinished events
	json   jsonReader
}

const (
	keptBytes   = 1 << 20 // larger memory goes back to the heap
	keptBuffers = 8
)

func (s *scratch) begin() {
	s.events = s.events[:0]
	if cap(s.arena) > keptBytes {
		s.arena = nil
	}
	s.arena = s.arena[:0]
}

func (s *scratch) take() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return nil
}

func (s *scratch) give(b []byte) {
	if cap(b) > 0 && cap(b) <= keptBytes && len(s.free) < keptBuffers {
		s.free = append(s.free, b[:0])
	}
}

// Timeout returns how long an unfinished event waits for its next line.
func (o *Options) Timeout() time.Duration { return o.timeout }
