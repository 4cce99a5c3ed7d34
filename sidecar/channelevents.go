package sidecar

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

func (p *Program) channelCat(args []string) int {
	f := newFlags(p, "channel cat")
	format, all := "text", false
	f.OneOf(&format, "format", "text is one line an event; body is the bodies alone; json has everything", "text", "body", "json")
	f.Bool(&all, "all", "a", "also those that are delivered, as long as their segment is there")
	i, _, code, ok := p.inspect(f, args)
	if !ok {
		return code
	}
	defer i.Close()
	w := bufio.NewWriterSize(p.Stdout, 64<<10)
	err := i.Events(all, map[string]func(io.Writer) func(wal.Event) error{"text": printEvent, "body": printBody, "json": export}[format](w))
	if e := w.Flush(); err == nil {
		err = e
	}
	return p.told(f, i, err)
}

// told ends a command that has read events: what could not be read is said.
func (p *Program) told(f *flags, i *wal.Inspection, err error) int {
	for _, x := range i.Problems() {
		if x.Kind == wal.Lost || x.Kind == wal.Missing {
			p.complain(fmt.Sprintf("%s: %s: %s (offset %d): %s", f.command, x.Segment, count(int(x.Events), "event"), x.Offset, x.Text))
		}
	}
	if err != nil {
		p.complain(f.command + ": " + err.Error())
		return exitFailed
	}
	if !sound(i.Problems()) {
		return exitFailed
	}
	return exitOK
}

func printEvent(w io.Writer) func(wal.Event) error {
	return func(e wal.Event) error {
		headers := "{"
		for k, v := range e.Headers.All() {
			if len(headers) > 1 {
				headers += ", "
			}
			headers += k + "=" + v
		}
		_, err := fmt.Fprintf(w, "%d %s %q %q\n", e.Sequence, e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), headers+"}", e.Body)
		return err
	}
}

func printBody(w io.Writer) func(wal.Event) error {
	return func(e wal.Event) error {
		_, err := w.Write(append(e.Body[:len(e.Body):len(e.Body)], '\n'))
		return err
	}
}

// channelExport saves events in a file, which is there as a whole or not at all.
func (p *Program) channelExport(args []string) int {
	f := newFlags(p, "channel export")
	var out string
	all := false
	f.String(&out, "out", "o", "FILE", "where to save them, as lines of JSON; it must not be there yet")
	f.Bool(&all, "all", "a", "also those that are delivered, as long as their segment is there")
	i, _, code, ok := p.inspect(f, args)
	if !ok {
		return code
	}
	defer i.Close()
	if out == "" {
		return f.wrong("name the file to write: --out FILE")
	}
	if _, err := os.Stat(out); err == nil {
		return f.wrong(out + " is there already")
	}
	n := 0
	err := replaceFile(out, func(w io.Writer) error {
		save := export(w)
		return i.Events(all, func(e wal.Event) error {
			n++
			return save(e)
		})
	})
	if err == nil {
		fmt.Fprintf(p.Stdout, "%s: %s\n", out, count(n, "event"))
	}
	return p.told(f, i, err)
}

// replaceFile writes a file of any size durably: it gets its name when it is whole.
func replaceFile(name string, write func(io.Writer) error) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		_ = os.Remove(tmp) // best effort: the error above is what counts
		return err
	}
	return vfs.OS().SyncDir(filepath.Dir(name))
}
