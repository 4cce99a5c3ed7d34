package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// agent runs Millrace with a configuration until all events are delivered.
// feed, if given, sends them to the source's port.
func (s *stage) agent(conf string, feed func(addr string) error) func() (figure, error) {
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		admin, err := freePort()
		if err != nil {
			return figure{}, err
		}
		port, err := freePort()
		if err != nil {
			return figure{}, err
		}
		if err := s.config(dir, conf, port); err != nil {
			return figure{}, err
		}
		p, err := start(dir, "log", s.bin, "agent", "-n", "a1", "-f", "flume.conf", "--admin", fmt.Sprint("127.0.0.1:", admin))
		if err != nil {
			return figure{}, err
		}
		began := p.began
		if feed != nil {
			if err := p.ready(admin); err != nil {
				return figure{}, err
			}
			began = time.Now()
			if err := feed(fmt.Sprint("127.0.0.1:", port)); err != nil {
				return figure{}, err
			}
		}
		err = p.until(10*time.Minute, func() bool { return delivered(admin) >= s.events })
		took := time.Since(began)
		if n := delivered(admin); err == nil && n != s.events {
			err = fmt.Errorf("%d events delivered of %d", n, s.events)
		}
		f, stopped := p.stop()
		if err == nil {
			err = stopped
		}
		f.wall = took
		return f, err
	}
}

// config fills in the places of a configuration.
func (s *stage) config(dir, conf string, port int) error {
	conf = strings.NewReplacer("INPUT", filepath.Dir(s.file()), "DIR", dir, "PORT", fmt.Sprint(port)).Replace(conf)
	return os.WriteFile(filepath.Join(dir, "flume.conf"), []byte(conf), 0o644)
}

func (p *proc) ready(admin int) error {
	return p.until(20*time.Second, func() bool {
		var st struct{ Ready bool }
		return get(fmt.Sprintf("http://127.0.0.1:%d/status", admin), &st) == nil && st.Ready
	})
}

// delivered is how many events the sink has acked.
func delivered(admin int) int {
	var st struct {
		Sinks []struct{ Delivered int }
	}
	if get(fmt.Sprintf("http://127.0.0.1:%d/status", admin), &st) != nil || len(st.Sinks) == 0 {
		return 0
	}
	return st.Sinks[0].Delivered
}

// small prints what has no limit to be compared with: start, idle memory, size.
func (s *stage) small() error {
	var up []figure
	var idle int64
	for range 5 {
		dir, err := s.fresh()
		if err != nil {
			return err
		}
		admin, err := freePort()
		if err != nil {
			return err
		}
		if err := s.config(dir, strings.ReplaceAll(tailNull, "INPUT", "DIR/state"), 0); err != nil {
			return err
		}
		p, err := start(dir, "log", s.bin, "agent", "-n", "a1", "-f", "flume.conf", "--admin", fmt.Sprint("127.0.0.1:", admin))
		if err != nil {
			return err
		}
		if err := p.ready(admin); err != nil {
			return err
		}
		took := time.Since(p.began)
		time.Sleep(3 * time.Second)
		idle = residentBytes(p.cmd.Process.Pid)
		f, err := p.stop()
		if err != nil {
			return err
		}
		f.wall = took
		up = append(up, f)
	}
	st, err := os.Stat(s.bin)
	if err != nil {
		return err
	}
	fmt.Printf("\nsmall: ready after %.0f ms (polled every 5 ms), idle RSS %.1f MiB after 3 s, binary %.2f MB\n",
		median(up, wall)*1000, float64(idle)/(1<<20), float64(st.Size())/1e6)
	return s.smallFlume()
}

// smallFlume prints how long Flume needs to run the same configuration, until its metrics have the source as started, which is the last to start.
func (s *stage) smallFlume() error {
	jars := filepath.Join(e2eHome(), "lib", "flume")
	if !s.peers || !exists(jars) {
		return nil
	}
	var up []figure
	var idle int64
	for range 3 {
		dir, err := s.fresh()
		if err != nil {
			return err
		}
		mon, err := freePort()
		if err != nil {
			return err
		}
		if err := s.config(dir, strings.ReplaceAll(tailNull, "INPUT", "DIR/state"), 0); err != nil {
			return err
		}
		p, err := startFlume(dir, jars, "-Dflume.monitoring.type=http", fmt.Sprint("-Dflume.monitoring.port=", mon))
		if err != nil {
			return err
		}
		err = p.until(time.Minute, func() bool {
			var all map[string]map[string]string
			started := func() string { return all["SOURCE.r"]["StartTime"] }
			return get(fmt.Sprintf("http://127.0.0.1:%d/metrics", mon), &all) == nil && started() != "" && started() != "0"
		})
		took := time.Since(p.began)
		time.Sleep(3 * time.Second)
		idle = residentBytes(p.cmd.Process.Pid)
		f, stopped := p.stop()
		if err := errors.Join(err, stopped); err != nil {
			return err
		}
		f.wall = took
		up = append(up, f)
	}
	fmt.Printf("flume: ready after %.0f ms, idle RSS %.1f MiB\n", median(up, wall)*1000, float64(idle)/(1<<20))
	return nil
}

func residentBytes(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize())
}
