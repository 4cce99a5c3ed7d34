package memory

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

func bound(t *testing.T, keys map[string]string) core.Channel {
	t.Helper()
	c := Channel.New()
	if _, faults := conf.Bind(c, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	return c
}

// New settings leave what is held, and wake whoever waits for room.
func TestAdjust(t *testing.T) {
	c := bound(t, map[string]string{"capacity": "3", "transactionCapacity": "3", "keep-alive": "3600"})
	if err := c.Open(t.Context(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put := func(n int) error {
		tx, err := c.TryClaim(core.Size{Events: n, Bytes: int64(n)})
		if err != nil {
			return err
		}
		b := core.NewBatch()
		for range n {
			b.Copy(core.Headers{}, []byte("x"))
		}
		tx.Commit(b, nil, func(error) {})
		b.Release()
		return nil
	}
	if err := put(3); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- c.Room(context.Background(), core.Size{Events: 2, Bytes: 2}) }()
	suite.Eventually(t, "somebody waits for room", func() bool {
		own := c.(*channel)
		own.mu.Lock()
		defer own.mu.Unlock()
		return len(own.putters) == 1
	})
	adjust := func(keys map[string]string) {
		t.Helper()
		next := bound(t, keys)
		if key := c.(core.Adjuster).Fixed(next); key != "" {
			t.Errorf("%s is fixed", key)
		}
		c.(core.Adjuster).Adjust(next)
	}
	adjust(map[string]string{"capacity": "5", "transactionCapacity": "2"})
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := put(3); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("more than a transaction: %v", err)
	}
	if err := put(2); err != nil {
		t.Error(err)
	}
	adjust(map[string]string{"capacity": "1", "transactionCapacity": "1"})
	if err := put(1); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("into a channel that became too small: %v", err)
	}
	if n := c.Len().Events; n != 5 || c.Capacity() != 1 {
		t.Errorf("%d events held, capacity %d", n, c.Capacity())
	}
	for range 5 {
		l, err := c.Take(t.Context(), core.Take{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(l.Batch().Events); n != 1 {
			t.Errorf("a lease of %d events", n)
		}
		l.Ack(nil)
	}
	if err := put(1); err != nil {
		t.Error(err)
	}
}
