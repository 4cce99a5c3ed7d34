package configfilter

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// External is the catalogue entry of the filter that asks another program.
var External = core.Type[conf.Filter]{
	Name: "external", Doc: "The value of a key is the first line that a command prints, which gets the key as its last argument.",
	Aliases: []string{"org.apache.flume.configfilter.ExternalProcessConfigFilter"},
	New:     func() conf.Filter { return new(external) },
}

type external struct {
	command []string
	timeout time.Duration
}

// Keys implements conf.Binder.
func (f *external) Keys(k *conf.Keys) {
	k.Words(&f.command, "command", "The command, split at blanks, with no shell; the key is added as its last argument.").Required()
	k.Inert("charset", "values are UTF-8")
	k.Millis(&f.timeout, "timeout", 30*time.Second, "How long the command may take; then it is killed, and the key has no value.").Must(conf.Min(1)).Since("1.0")
}

// Value implements conf.Filter.
func (f *external) Value(key string, _ func(string) (string, bool)) (string, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.command[0], append(f.command[1:len(f.command):len(f.command)], key)...)
	cmd.WaitDelay = time.Second // for children that keep the pipe open
	var out limited
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("took longer than %v", f.timeout)
		case out.over:
			err = fmt.Errorf("printed more than %d bytes", maxValue)
		}
		return "", false, fmt.Errorf("run %s: %w", f.command[0], err)
	}
	line, _, _ := strings.Cut(string(out.text), "\n")
	line = strings.TrimSuffix(line, "\r")
	return line, line != "", nil
}

// limited keeps what is written to it, and refuses what goes beyond maxValue.
type limited struct {
	text []byte
	over bool
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	if len(l.text)+len(b) > maxValue {
		l.over = true
		return 0, io.ErrShortWrite
	}
	l.text = append(l.text, b...)
	return len(b), nil
}
