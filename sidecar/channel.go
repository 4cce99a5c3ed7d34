package sidecar

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

// channel works on the directories of a file channel. All but import change nothing.
func (p *Program) channel(args []string) int {
	verbs := map[string]func([]string) int{"fsck": p.channelFsck, "cat": p.channelCat, "export": p.channelExport, "import": p.channelImport}
	if len(args) > 0 {
		if run := verbs[args[0]]; run != nil {
			return run(args[1:])
		}
	}
	text := "say what to do with a file channel:\n" +
		"  channel fsck DIR...           what is in it, and what is wrong with it\n" +
		"  channel cat DIR...            its undelivered events\n" +
		"  channel export --out FILE DIR...   the same, saved as lines of JSON\n" +
		"  channel import DIR...         bring along what a stopped Flume 1.11 has not delivered\n" +
		"DIR are the channel's dataDirs. fsck, cat and export change nothing and may be used while an agent runs."
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "-help") {
		fmt.Fprintln(p.Stdout, text)
		return exitOK
	}
	p.complain(text)
	return exitUsage
}

// directories reads the command line: options and directories in any order.
func directories(f *flags, args []string, what string) (dirs []string, code int, ok bool) {
	if code, ok := f.parse(args); !ok {
		return nil, code, false
	}
	for f.set.NArg() > 0 {
		dirs = append(dirs, f.set.Arg(0))
		if err := f.set.Parse(f.set.Args()[1:]); err != nil {
			return nil, f.wrong(err.Error()), false
		}
	}
	if len(dirs) == 0 {
		return nil, f.wrong("name " + what + " data directories (dataDirs)"), false
	}
	return dirs, exitOK, true
}

// inspect opens the log in the directories that the command line names.
func (p *Program) inspect(f *flags, args []string) (i *wal.Inspection, dirs []string, code int, ok bool) {
	dirs, code, ok = directories(f, args, "the channel's")
	if !ok {
		return nil, nil, code, false
	}
	i, err := wal.Inspect(vfs.OS(), dirs)
	if err != nil {
		p.complain(f.command + ": " + err.Error())
		return nil, nil, exitFailed, false
	}
	return i, dirs, exitOK, true
}

// channelReport is what fsck says.
type channelReport struct {
	Dirs      []string           `json:"dirs"`
	InUse     bool               `json:"in_use"` // by an agent
	Segments  []wal.SegmentState `json:"segments"`
	Pending   int64              `json:"pending"`
	Read      int64              `json:"read"` // of them, those whose checksums hold
	Bytes     int64              `json:"bytes"`
	Oldest    *time.Time         `json:"oldest,omitempty"`
	Positions map[string]int64   `json:"source_positions"`
	Sinks     []string           `json:"sink_marks"`
	Problems  []wal.Problem      `json:"problems"`
	Sound     bool               `json:"sound"`
}

func (p *Program) channelFsck(args []string) int {
	f := newFlags(p, "channel fsck")
	format := "text"
	f.OneOf(&format, "format", "form of the answer", "text", "json")
	i, dirs, code, ok := p.inspect(f, args)
	if !ok {
		return code
	}
	defer i.Close()
	r := channelReport{Dirs: dirs, Segments: or(i.Segments()), Positions: i.Positions(), Sinks: or(slices.Sorted(maps.Keys(i.Marks())))}
	if err := i.Events(false, func(e wal.Event) error {
		r.Read++
		r.Bytes += int64(len(e.Body))
		if r.Oldest == nil {
			r.Oldest = &e.Time
		}
		return nil
	}); err != nil {
		p.complain("channel fsck: " + err.Error())
		return exitFailed
	}
	for _, s := range r.Segments {
		r.Pending += s.Pending
	}
	r.InUse = inUse(r.Dirs)
	r.Problems = or(i.Problems())
	r.Sound = sound(r.Problems)
	if format == "json" {
		if err := p.writeJSON(r); err != nil {
			p.complain(err.Error())
			return exitFailed
		}
	} else {
		r.print(p.Stdout)
	}
	if !r.Sound {
		return exitFailed
	}
	return exitOK
}

// sound tells whether nothing that was acknowledged is in question: a torn tail never was.
func sound(problems []wal.Problem) bool {
	for _, x := range problems {
		if x.Kind != wal.Torn {
			return false
		}
	}
	return true
}

// inUse tells whether an agent holds the lock of one of the directories.
func inUse(dirs []string) bool {
	for _, dir := range dirs {
		name := filepath.Join(dir, "in_use.lock")
		if _, err := os.Stat(name); err != nil {
			continue // nobody has ever locked it, and to ask would make the file
		}
		l, err := vfs.OS().Lock(name)
		if err != nil {
			return true
		}
		_ = l.Close() // the lock goes with the descriptor
	}
	return false
}

func (r *channelReport) print(w io.Writer) {
	for _, s := range r.Segments {
		note := ""
		if s.Damaged {
			note = "  damaged"
		}
		fmt.Fprintf(w, "%s  events %d to %d, %s undelivered, %s%s\n", s.Path, s.From, s.To-1, count(int(s.Pending), "event"), count(int(s.Bytes), "byte"), note)
	}
	for _, x := range r.Problems {
		fmt.Fprintf(w, "%s: %s at offset %d", x.Kind, x.Segment, x.Offset)
		if x.Bytes > 0 {
			fmt.Fprintf(w, ", %s", count(int(x.Bytes), "byte"))
		}
		if x.Events > 0 {
			fmt.Fprintf(w, ", %s", count(int(x.Events), "event"))
		}
		fmt.Fprintf(w, ": %s\n", x.Text)
	}
	if len(r.Segments) == 0 && len(r.Problems) == 0 {
		fmt.Fprintf(w, "%s: no segment of a file channel is there: nothing was put yet, or these are not its dataDirs\n", strings.Join(r.Dirs, ", "))
	}
	user := ""
	if r.InUse {
		user = "; an agent is using it"
	}
	word := "sound"
	if !r.Sound {
		word = "not sound"
	}
	fmt.Fprintf(w, "%s: %s undelivered, %d read back whole (%s of bodies), %s of sources%s\n",
		word, count(int(r.Pending), "event"), r.Read, count(int(r.Bytes), "byte"), count(len(r.Positions), "position"), user)
}

func (p *Program) writeJSON(v any) error {
	e := json.NewEncoder(p.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// exported is an event as a line of JSON. A body that is no UTF-8 is in base64.
type exported struct {
	Sequence  uint64            `json:"sequence"`
	Time      time.Time         `json:"time"`
	Delivered bool              `json:"delivered,omitempty"`
	Headers   map[string]string `json:"headers"`
	Body      *string           `json:"body,omitempty"`
	Base64    []byte            `json:"body_base64,omitempty"`
}

func export(w io.Writer) func(wal.Event) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return func(x wal.Event) error {
		line := exported{Sequence: x.Sequence, Time: x.Time.UTC(), Delivered: x.Delivered, Headers: map[string]string{}}
		for k, v := range x.Headers.All() {
			line.Headers[k] = v
		}
		if utf8.Valid(x.Body) {
			text := string(x.Body)
			line.Body = &text
		} else {
			line.Base64 = x.Body
		}
		return e.Encode(line)
	}
}
