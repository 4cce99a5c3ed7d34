package tailcmd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hpcloud/tail"
	"github.com/hpcloud/tail/watch"
)

// Exit statuses.
const (
	statusOK    = 0
	statusFail  = 1
	statusUsage = 2
)

const usage = "usage: millrace tail [-n N | -n +N] [-f | -F] [-q] FILE..."

// Main runs the command, with the arguments after its name, and returns the
// exit status. With -f or -F it returns only when every file is gone or stdout
// is closed; the caller is expected to end the process then.
func Main(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "tail: %v\n%s\n", err, usage)
		return statusUsage
	}
	c := &command{options: o, out: bufio.NewWriterSize(stdout, 64<<10), stderr: stderr, shown: -1}
	if err := c.run(); err != nil {
		fmt.Fprintf(stderr, "tail: %v\n", err)
		return statusFail
	}
	return c.status
}

type command struct {
	options
	out    *bufio.Writer
	stderr io.Writer
	shown  int // file that the last line was of
	status int
}

func (c *command) complain(err error) {
	fmt.Fprintf(c.stderr, "tail: %v\n", err)
	c.status = statusFail
}

func (c *command) run() error {
	offsets := make([]int64, len(c.files))
	for i, name := range c.files {
		var err error
		if offsets[i], err = c.copy(i); err != nil {
			if c.reopen && errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(c.stderr, "tail: %s is not there yet\n", name)
				continue
			}
			c.complain(err)
			offsets[i] = -1
		}
	}
	if err := c.out.Flush(); err != nil || !c.follow {
		return err
	}
	return c.watch(offsets)
}

// copy writes what is asked for of file i as it is now, and returns where to go
// on. What to be followed ends at its last newline.
func (c *command) copy(i int) (int64, error) {
	f, err := os.Open(c.files[i])
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return 0, fmt.Errorf("%s is a directory", c.files[i])
	}
	size := info.Size()
	from, end := int64(0), size
	if c.follow {
		if end, err = afterLastNewline(f, size); err != nil {
			return 0, err
		}
	}
	switch {
	case !c.fromStart:
		from, err = lastLines(f, size, c.lines)
	case c.lines > 1:
		from, err = skipLines(f, size, c.lines-1)
	}
	if err != nil {
		return 0, err
	}
	from = min(from, end)
	if from < end {
		c.header(i)
		_, err = io.Copy(c.out, io.NewSectionReader(f, from, end-from))
	}
	return end, err
}

// header announces file i where there are several.
func (c *command) header(i int) {
	if len(c.files) == 1 || c.quiet || c.shown == i {
		return
	}
	if c.shown >= 0 {
		c.out.WriteByte('\n')
	}
	c.shown = i
	fmt.Fprintf(c.out, "==> %s <==\n", c.files[i])
}

type line struct {
	file int
	text string
}

// poll is how often files are looked at. The library could wait for inotify
// instead, but then it never notices a file that is removed while it is open.
const poll = 50 * time.Millisecond

// watch follows the files from those offsets; -1: not that one.
func (c *command) watch(offsets []int64) error {
	watch.POLL_DURATION = poll
	lines := make(chan line, 1024)
	failed := make(chan error, len(offsets))
	var readers sync.WaitGroup
	for i, at := range offsets {
		if at < 0 {
			continue
		}
		readers.Go(func() {
			if err := c.read(i, at, lines); err != nil {
				failed <- err
			}
		})
	}
	go func() {
		readers.Wait()
		close(lines)
	}()
	for {
		l, more := <-lines
		if !more {
			break
		}
		c.header(l.file)
		c.out.WriteString(l.text)
		c.out.WriteByte('\n')
		if len(lines) > 0 {
			continue
		}
		if err := c.out.Flush(); err != nil {
			return err // nobody reads: the process ends, and with it the library
		}
	}
	close(failed)
	for err := range failed {
		c.complain(err)
	}
	c.complain(errors.New("no file is left to follow"))
	return c.out.Flush()
}

// read sends the lines of file i from offset at, until the library gives up.
func (c *command) read(i int, at int64, lines chan<- line) error {
	for {
		t, err := tail.TailFile(c.files[i], tail.Config{
			Follow: true, ReOpen: c.reopen, Poll: true, Location: &tail.SeekInfo{Offset: at},
			Logger: libraryLog{log.New(c.stderr, "tail: ", 0)},
		})
		if err != nil {
			return err
		}
		for l := range t.Lines {
			lines <- line{i, l.Text}
		}
		err = t.Wait()
		if !c.reopen || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		at = 0 // it went away just when the library had read all of it: another will come
	}
}

// libraryLog leaves out what is said of every file.
type libraryLog struct{ *log.Logger }

// Printf says what is worth it.
func (l libraryLog) Printf(format string, args ...any) {
	if !strings.HasPrefix(format, "Seeked") {
		l.Logger.Printf(format, args...)
	}
}
