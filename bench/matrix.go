package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The tail matrix: what writers and rotation do to a file, done to each program,
// and how many lines it loses and repeats.

// tailer is a program that follows the files DIR/logs/*.log and writes their lines below DIR/out.
type tailer struct {
	name, state string
	begin       func(dir string) (*proc, error)
}

// history is what happens in one cell of the matrix.
type history struct {
	name string
	play func(p *play) error
}

// play is one history with one program.
type play struct {
	tailer  tailer
	dir     string
	proc    *proc
	written int
}

// quiet is how long a program may write nothing before it is taken to be done:
// longer than the pauses of any of them between two looks at a file.
const quiet = 8 * time.Second

// matrix runs every history with every tailer and prints lost and repeated lines.
func (s *stage) matrix(only string) error {
	tailers := s.tailers()
	fmt.Printf("%-44s", "lost / repeated, of lines written")
	for _, t := range tailers {
		fmt.Printf(" %16s", t.name)
	}
	fmt.Println()
	for _, h := range histories {
		if !strings.Contains(h.name, only) {
			continue
		}
		var cells []string
		lines := 0
		for _, t := range tailers {
			dir, err := s.fresh()
			if err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(dir, "logs"), 0o755); err != nil {
				return err
			}
			p := &play{tailer: t, dir: dir}
			lost, repeated, err := p.run(h)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", h.name, t.name, err)
			}
			lines = p.written
			cells = append(cells, fmt.Sprintf(" %16s", fmt.Sprintf("%d / %d", lost, repeated)))
		}
		fmt.Printf("%-44s%s\n", fmt.Sprintf("%s (%d)", h.name, lines), strings.Join(cells, ""))
	}
	for _, t := range tailers {
		fmt.Printf("%s: %s\n", t.name, t.state)
	}
	return nil
}

func (p *play) run(h history) (lost, repeated int, err error) {
	if err := p.start(); err != nil {
		return 0, 0, err
	}
	if err := errors.Join(h.play(p), p.settle(), p.stop()); err != nil {
		return 0, 0, err
	}
	seen, total, err := p.seen()
	return p.written - seen, total - seen, err
}

func (p *play) start() (err error) {
	p.proc, err = p.tailer.begin(p.dir)
	return err
}

func (p *play) stop() error {
	_, err := p.proc.stop()
	return err
}

// kill ends the program as the kernel does when memory is short, and starts it again.
func (p *play) kill() error {
	_ = p.proc.cmd.Process.Kill()
	<-p.proc.ended
	return p.start()
}

// settle waits until all lines have arrived, or nothing more does.
func (p *play) settle() error {
	seen, changed := -1, time.Now()
	err := p.proc.until(5*time.Minute, func() bool {
		n, _, err := p.seen()
		if err != nil || n != seen {
			seen, changed = n, time.Now()
		}
		return n >= p.written || time.Since(changed) > quiet
	})
	return err
}

// seen counts the lines that arrived: the distinct ones, and all.
func (p *play) seen() (distinct, total int, err error) {
	got := make([]bool, p.written)
	err = filepath.WalkDir(filepath.Join(p.dir, "out"), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			_, number, ok := bytes.Cut(bytes.TrimSpace(line), []byte("number="))
			n, err := strconv.Atoi(string(number))
			if !ok || err != nil || n < 0 || n >= p.written {
				continue // a piece of a line: the line is lost
			}
			total++
			if !got[n] {
				got[n] = true
				distinct++
			}
		}
		return nil
	})
	return distinct, total, err
}

func (p *play) path(name string) string { return filepath.Join(p.dir, "logs", name) }

// text is the next n lines, without the last newline if open.
func (p *play) text(n int, open bool) []byte {
	var b []byte
	for range n {
		b = fmt.Appendf(b, "2026-11-22T17:05:00Z INFO order accepted: items=3 total=129.90 number=%d\n", p.written)
		p.written++
	}
	if open {
		b = b[:len(b)-1]
	}
	return b
}

// write appends n lines to a file.
func (p *play) write(name string, n int) error { return p.append(name, p.text(n, false)) }

func (p *play) append(name string, text []byte) error {
	f, err := os.OpenFile(p.path(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func (p *play) rename(from, to string) error { return os.Rename(p.path(from), p.path(to)) }

// copyTruncate is logrotate's copytruncate, with nothing written in between.
func (p *play) copyTruncate(from, to string) error {
	text, err := os.ReadFile(p.path(from))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(p.path(to), text, 0o644), os.Truncate(p.path(from), 0))
}

// compress replaces a file by its compressed form.
func (p *play) compress(name string) error {
	in, err := os.Open(p.path(name))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(p.path(name + ".gz"))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close(), out.Close(), os.Remove(p.path(name)))
}

// steps runs one after the other, up to the first that fails.
func steps(all ...func() error) error {
	for _, f := range all {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
