package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// healthcheck is the image's own probe: it asks the admin server of an agent.
func (p *Program) healthcheck(args []string) int {
	f := newFlags(p, "healthcheck")
	addr, timeout, ready := defaultAdmin, 3*time.Second, false
	f.String(&addr, "admin", "", "ADDR", "where the agent's admin server listens (default "+defaultAdmin+")")
	f.Duration(&timeout, "timeout", "", "how long to wait for the answer (default 3s)")
	f.Bool(&ready, "ready", "", "ask whether it is ready, not only whether it lives")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	if err := ask(addr, path, timeout); err != nil {
		p.complain("healthcheck: " + err.Error())
		return exitFailed
	}
	return exitOK
}

func ask(addr, path string, timeout time.Duration) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("there is no admin server to ask: %q is not an address", addr)
	}
	switch host { // an agent that listens everywhere listens here
	case "", "0.0.0.0", "::":
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it is next door
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // for the message only
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, cmp.Or(strings.TrimSpace(string(text)), answer.Status))
	}
	return nil
}
