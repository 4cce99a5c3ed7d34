package conf

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Pos is a place in a configuration file. The zero value means that there is none.
type Pos struct {
	File string
	Line int // counts from 1: the first natural line of the key
}

// String is file:line, the file alone when there is no line, or "".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Severity tells whether an agent can start with a fault.
type Severity int

const (
	// Warning: Flume ignores it or takes a default; the agent starts.
	Warning Severity = iota
	// Error: Flume drops a component or dies; the agent does not start.
	Error
)

// String is "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Fault is one thing wrong with a configuration.
type Fault struct {
	Pos      Pos
	Severity Severity
	Key      string // the full key, a1.sources.r1.batchSize; "" when the fault is of a whole file
	Text     string // what is wrong
	Hint     string // what to do instead; may be ""
}

// String is one line: agent.conf:5: a1.sources.r1.batchsize: unknown key (did you mean batchSize?)
func (f Fault) String() string {
	var b strings.Builder
	for _, part := range []string{f.Pos.String(), f.Key} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(f.Text)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// MarshalJSON gives {"file","line","severity","key","message","hint"}, always all six.
func (f Fault) MarshalJSON() ([]byte, error) {
	var b []byte
	text := func(name, value string) error {
		quoted, err := json.Marshal(value)
		if err != nil {
			return err
		}
		b = append(append(append(b, `,"`+name...), `":`...), quoted...)
		return nil
	}
	if err := text("file", f.Pos.File); err != nil {
		return nil, err
	}
	b[0] = '{'
	b = strconv.AppendInt(append(b, `,"line":`...), int64(f.Pos.Line), 10)
	for _, pair := range [][2]string{
		{"severity", f.Severity.String()},
		{"key", f.Key},
		{"message", f.Text},
		{"hint", f.Hint},
	} {
		if err := text(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// Faults are all the faults found.
type Faults []Fault

// HasErrors tells whether one of them is an [Error].
func (fs Faults) HasErrors() bool {
	return slices.ContainsFunc(fs, func(f Fault) bool { return f.Severity == Error })
}

// Err is nil unless there is an [Error] among the faults; its text then has one line for each error (not for warnings).
func (fs Faults) Err() error {
	var bad faultsError
	for _, f := range fs {
		if f.Severity == Error {
			bad = append(bad, f.String())
		}
	}
	if bad == nil {
		return nil
	}
	return bad
}

type faultsError []string

func (e faultsError) Error() string { return strings.Join(e, "\n") }

// Sort orders faults by file, in the order of files, then by line; those without a place come first. Files not named
// come last. The order of faults in one line is kept.
func (fs Faults) Sort(files []string) {
	rank := func(f Fault) int {
		if f.Pos.File == "" {
			return -1
		}
		if i := slices.Index(files, f.Pos.File); i >= 0 {
			return i
		}
		return len(files)
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return a.Pos.Line - b.Pos.Line
	})
}

// promote makes an error of every warning.
func (fs Faults) promote() {
	for i := range fs {
		fs[i].Severity = Error
	}
}
