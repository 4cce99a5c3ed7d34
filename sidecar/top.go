package sidecar

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core"
)

const (
	topEvery = 2 * time.Second
	topWide  = 120 // columns, where the terminal does not say
)

// topStatus is what top reads of /status.
type topStatus struct {
	core.Status
	Time   time.Time
	Build  build
	Drain  drainReport
	Reload struct {
		Last *struct {
			Time   time.Time
			Result string
		}
	}
}

// top shows what an agent does, anew every few seconds: in place on a terminal, in plain lines elsewhere.
func (p *Program) top(args []string) int {
	f := newFlags(p, "top")
	var c adminClient
	every, most := topEvery, 0
	c.flags(f)
	f.Duration(&every, "interval", "i", "how often (default 2s)")
	f.add(valueFunc(func(text string) (err error) {
		if most, err = strconv.Atoi(text); err != nil || most < 1 {
			return errors.New("is not a number of times")
		}
		return nil
	}), "count", "n", "N", "end after so many times; rates are there from the second on")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wide, terminal := columns(p.Stdout)
	tick := time.NewTicker(max(every, 100*time.Millisecond))
	defer tick.Stop()
	var last *topStatus
	for n := 1; ; n++ {
		now, err := c.status(ctx)
		if ctx.Err() != nil {
			return exitOK
		}
		if err != nil && (last == nil || !terminal) {
			p.complain("top: " + err.Error())
			return exitFailed
		}
		var text string
		if err != nil {
			text = "no answer: " + err.Error() + "\n"
		} else {
			text = topText(last, now, wide)
			last = now
		}
		if terminal {
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
			if n == 1 {
				text = "\x1b[2J" + text
			}
		} else if n > 1 {
			text = "\n" + text
		}
		if _, err := io.WriteString(p.Stdout, text); err != nil {
			return exitFailed
		}
		if n == most {
			return exitOK
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return exitOK
		}
	}
}

func (c *adminClient) status(ctx context.Context) (*topStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := c.do(ctx, "GET", "/status")
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	s := new(topStatus)
	if err := json.NewDecoder(body).Decode(s); err != nil {
		return nil, fmt.Errorf("/status: %w", err)
	}
	return s, nil
}

// columns tells how wide a terminal is.
func columns(w io.Writer) (wide int, terminal bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return cmp.Or(int(size.Col), topWide), true
}

// topText is one picture; last, the status before it, is for rates. wide is how long lines may be, 0: as long as they are.
func topText(last, now *topStatus, wide int) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
		if r := []rune(text); wide > 0 && len(r) > wide {
			text = string(r[:wide])
		}
		b.WriteString(text + "\n")
	}
	state := "ready"
	switch {
	case now.Drain.Msg != drainNone:
		state = fmt.Sprintf("%s, %s left", now.Drain.Msg, count(now.Drain.Kept+now.Drain.Lost, "event"))
	case !now.Ready:
		state = "not ready"
	}
	line("agent %s: %s   millrace %s   %s", now.Agent, state, now.Build.Version, now.Time.Format(time.TimeOnly))
	const row = "%-8s %-16s %-14s %-10s %10s %12s %6s %8s %7s  %s"
	line(row, "", "NAME", "TYPE", "STATE", "EVENTS/S", "EVENTS", "FILL", "AGE", "ERRORS", "")
	rate := rates(last, now)
	for _, s := range now.Sources {
		line(row, "source", s.Name, s.Type, s.State, rate("source "+s.Name, s.Accepted), number64(s.Accepted), "", "", number64(s.Failures), "-> "+strings.Join(s.Channels, " ")+why(s.Error))
	}
	for _, c := range now.Channels {
		fill, state := "", "good"
		if c.Capacity > 0 {
			fill = fmt.Sprintf("%d%%", c.Events*100/c.Capacity)
		}
		switch {
		case c.Error != "":
			state = "failed"
		case c.Removed:
			state = "removed"
		case c.Capacity > 0 && c.Events >= c.Capacity:
			state = "full"
		}
		line(row, "channel", c.Name, c.Type, state, rate("channel "+c.Name, c.Put), number64(int64(c.Events)), fill, ageText(c.Age), number64(c.Dropped), strings.TrimPrefix(why(c.Error), " "))
	}
	for _, k := range now.Sinks {
		if isGroup(now.Sinks, k.Name) {
			continue
		}
		state := cmp.Or(k.Health, "good")
		if k.Error != "" && k.Group == "" {
			state = "failing"
		}
		line(row, "sink", k.Name, k.Type, state, rate("sink "+k.Name, k.Delivered), number64(k.Delivered), "", "", number64(k.Failures+k.Refused), "<- "+k.Channel+why(k.Error))
	}
	for _, problem := range now.Problems {
		line("! %s", problem)
	}
	if r := now.Reload.Last; r != nil && r.Result != reloadOK {
		line("! the last reload, at %s: %s", r.Time.Format(time.TimeOnly), r.Result)
	}
	return b.String()
}

func isGroup(sinks []core.SinkStatus, name string) bool {
	for _, k := range sinks {
		if k.Group == name {
			return true
		}
	}
	return false
}

func why(err string) string {
	if err == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(err, "\n", " ")
}

// rates gives how much a number of a component has grown in a second.
func rates(last, now *topStatus) func(name string, n int64) string {
	before := map[string]int64{}
	if last != nil {
		for _, s := range last.Sources {
			before["source "+s.Name] = s.Accepted
		}
		for _, c := range last.Channels {
			before["channel "+c.Name] = c.Put
		}
		for _, k := range last.Sinks {
			before["sink "+k.Name] = k.Delivered
		}
	}
	return func(name string, n int64) string {
		old, ok := before[name]
		if !ok || n < old {
			return ""
		}
		seconds := now.Time.Sub(last.Time).Seconds()
		if seconds <= 0 {
			return ""
		}
		return strconv.FormatFloat(float64(n-old)/seconds, 'f', 1, 64)
	}
}

func number64(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func ageText(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
