package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stage is where the runs take place.
type stage struct {
	dir, bin string
	events   int
	peers    bool
	runs     int
	ends     []func() error // stop what was started for several rows
}

func (s *stage) file() string { return filepath.Join(s.dir, "input", "lines.log") }
func (s *stage) size() int64  { return int64(s.events) * lineBytes }

// input writes the lines, numbered, and reads them once so that they are in memory.
func (s *stage) input() error {
	if err := os.MkdirAll(filepath.Dir(s.file()), 0o755); err != nil {
		return err
	}
	if st, err := os.Stat(s.file()); err == nil && st.Size() == s.size() {
		_, err := readAll(s.file())
		return err
	}
	f, err := os.Create(s.file())
	if err != nil {
		return err
	}
	defer f.Close()
	const text = "2026-11-22T17:05:00.123Z INFO  [worker-17] com.example.shop.OrderService - order accepted: customer=4711 items=3 total=129.90 currency=EUR payment=card country=DE channel=web session=4f9a"
	buf := make([]byte, 0, 1<<20)
	for i := range s.events {
		buf = fmt.Appendf(buf, "%010d ", i)
		buf = append(buf, text...)
		for len(buf)%lineBytes != lineBytes-1 {
			buf = append(buf, '.')
		}
		buf = append(buf, '\n')
		if len(buf) >= 1<<20-lineBytes || i == s.events-1 {
			if _, err := f.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return f.Sync()
}

// fresh returns an empty directory for one run.
func (s *stage) fresh() (string, error) {
	s.runs++
	dir := filepath.Join(s.dir, "run")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	for _, sub := range []string{"out", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", err
		}
	}
	syscall.Sync() // the last run's dirty pages must not be this one's cost
	return dir, nil
}

// proc is a running program.
type proc struct {
	cmd   *exec.Cmd
	began time.Time
	log   string
	ended chan struct{} // closed when it has ended
}

func start(dir, log string, name string, args ...string) (*proc, error) {
	out, err := os.Create(filepath.Join(dir, log))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"))
	p := &proc{cmd, time.Now(), out.Name(), make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends the program and returns what it used; wall is for the caller to set.
func (p *proc) stop() (figure, error) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return figure{}, errors.New("did not stop within a minute")
	}
	u := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return figure{cpu: p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), rss: u.Maxrss << 10}, nil
}

// until polls ok every few milliseconds, as long as the program runs.
func (p *proc) until(limit time.Duration, ok func() bool) error {
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.ended:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("the program has ended: %s", text[max(0, len(text)-2000):])
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("not done within %v", limit)
		}
	}
	return nil
}

// freePort returns a port that was free just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// get reads a small JSON document into v.
func get(url string, v any) error {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v)
}

// dirSize adds up the files below dir.
func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
