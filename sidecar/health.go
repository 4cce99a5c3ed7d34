package sidecar

import (
	"context"
	"time"
)

// healthcheck is the image's own probe: it asks the admin server of an agent.
func (p *Program) healthcheck(args []string) int {
	f := newFlags(p, "healthcheck")
	var c adminClient
	timeout, ready := 3*time.Second, false
	c.flags(f)
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
	if err := c.ask(path, timeout); err != nil {
		p.complain("healthcheck: " + err.Error())
		return exitFailed
	}
	return exitOK
}

// ask asks the admin server at an address and forgets the answer but for its code.
func ask(addr, path string, timeout time.Duration) error {
	return (&adminClient{addr: addr}).ask(path, timeout)
}

func (c *adminClient) ask(path string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	answer, err := c.do(ctx, "GET", path)
	if err != nil {
		return err
	}
	return answer.Close()
}
