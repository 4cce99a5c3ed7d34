package sidecar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// tapCommand prints a sample of the events that pass the edges of an agent, as lines of JSON.
func (p *Program) tapCommand(args []string) int {
	f := newFlags(p, "tap")
	var c adminClient
	rate, bytes, most := "", "", 0
	c.flags(f)
	f.String(&rate, "rate", "", "N", fmt.Sprintf("events a second and edge, at most %d (default %d)", tapMostRate, tapRate))
	f.String(&bytes, "bytes", "", "N", fmt.Sprintf("how much of a body is shown, at most %d (default %d)", tapMostShow, tapShow))
	f.add(valueFunc(func(text string) (err error) {
		if most, err = strconv.Atoi(text); err != nil || most < 1 {
			return errors.New("is not a number of events")
		}
		return nil
	}), "count", "n", "N", "end after so many events")
	if code, ok := f.parse(args); !ok {
		return code
	}
	q := url.Values{"edge": f.set.Args()}
	for name, v := range map[string]string{"rate": rate, "bytes": bytes} {
		if v != "" {
			q.Set(name, v)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	body, err := c.do(ctx, "GET", "/tap?"+q.Encode())
	if err != nil {
		p.complain("tap: " + err.Error())
		return exitFailed
	}
	defer func() { _ = body.Close() }()
	for r, n := bufio.NewReader(body), 0; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			if ctx.Err() == nil {
				p.complain("tap: the agent has ended, or cannot be reached")
				return exitFailed
			}
			return exitOK
		}
		if strings.TrimSpace(line) == "" {
			continue // a sign of life
		}
		if _, err := fmt.Fprint(p.Stdout, line); err != nil {
			return exitFailed
		}
		if n++; n == most {
			return exitOK
		}
	}
}
