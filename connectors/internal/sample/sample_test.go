package sample

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSay(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var l Log
	now := time.Unix(1000, 0)
	say := func() { l.Say(log, now, slog.LevelWarn, "bad line", slog.Any("error", errors.New("x"))) }
	say()
	say()
	say()
	if n := strings.Count(out.String(), "bad line"); n != 1 {
		t.Fatalf("logged %d times at once:\n%s", n, &out)
	}
	now = now.Add(Every)
	say()
	if !strings.Contains(out.String(), "not_logged=2") {
		t.Fatalf("the two that were not logged are not counted:\n%s", &out)
	}
}
