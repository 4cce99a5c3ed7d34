package accept

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func listen(t *testing.T) (*Listener, func() net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(ln, sourcetest.NewEnv(t, "src"))
	t.Cleanup(func() { _ = l.Close() })
	return l, func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

func TestLimit(t *testing.T) {
	l, dial := listen(t)
	l.Max, l.Refusal = 1, "FAILED: full\n"
	conns := make(chan net.Conn)
	go func() {
		defer close(conns)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	dial()
	first := <-conns
	told, err := io.ReadAll(dial())
	if err != nil || string(told) != l.Refusal {
		t.Fatalf("the second client reads %q, %v", told, err)
	}
	if n := l.refused.Load(); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
	for range 2 { // closing twice counts once
		_ = first.Close()
	}
	suite.Eventually(t, "a place is free", func() bool { return l.env.Metrics.OpenConnection.Load() == 0 })
	dial()
	<-conns
	_ = l.Close()
	if _, more := <-conns; more {
		t.Error("a connection after the close")
	}
}

func TestWriteTimeout(t *testing.T) {
	l, dial := listen(t)
	l.Write = time.Millisecond
	dial()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = c.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write to a peer that does not read: %v", err)
	}
}
