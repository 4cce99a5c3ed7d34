package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// drainCommand has an agent drain, waits for the end, and says in one line of
// JSON what is left.
func (p *Program) drainCommand(args []string) int {
	f := newFlags(p, "drain")
	var c adminClient
	timeout, after, only := time.Minute, time.Duration(0), false
	c.flags(f)
	f.Duration(&timeout, "timeout", "", "how long to wait for the end (default 1m)")
	f.Duration(&after, "after", "", "how long to wait before it begins, while the application ends (default 0s)")
	f.Bool(&only, "wait-only", "", "do not begin a drain, only wait for the end of one")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	if timeout > longestWait {
		return f.wrong("--timeout is at most " + longestWait.String())
	}
	time.Sleep(after)
	method := http.MethodPost
	if only {
		method = http.MethodGet
	}
	report, err := c.drain(method, timeout)
	if err != nil {
		p.complain("drain: " + err.Error())
		return exitFailed
	}
	if err := json.NewEncoder(p.Stdout).Encode(report); err != nil {
		p.complain("drain: " + err.Error())
		return exitFailed
	}
	if report.Msg != drainEnded || report.Lost > 0 {
		return exitFailed
	}
	return exitOK
}

func (c *adminClient) drain(method string, timeout time.Duration) (report drainReport, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+5*time.Second) // the answer comes when the time is over
	defer cancel()
	answer, err := c.send(ctx, method, "/drainz?wait="+timeout.String())
	if err != nil {
		return report, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return report, fmt.Errorf("/drainz: %s: %s", answer.Status, text)
	}
	return report, nil
}
