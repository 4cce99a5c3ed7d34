package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// addPeers adds what is installed: Flume and syslog-ng by e2e/services, rsyslog
// from the system.
func (s *stage) addPeers(rows []row) {
	home := e2eHome()
	if jars := filepath.Join(home, "lib", "flume"); exists(jars) {
		rows[0].field = append(rows[0].field, contender{"flume", "memory channel, counted", s.flume(jars, parts+inMemory+tail+null)})
		rows[2].field = append(rows[2].field, contender{"flume", "file channel, every put and take synced, counted", s.flume(jars, parts+onDisk+tail+roll)})
	}
	if bin, err := exec.LookPath("rsyslogd"); err == nil {
		rows[1].field = append(rows[1].field, contender{"rsyslog", "imfile to omfile, memory queue, bytes counted", s.rsyslog(bin)})
	}
	if root := filepath.Join(home, "syslog-ng"); exists(filepath.Join(root, "usr", "sbin", "syslog-ng")) {
		rows[3].field = append(rows[3].field, contender{"syslog-ng", "parsed, flow control, to /dev/null, counted by its own statistics", s.syslogNG(root)})
	}
}

// e2eHome is where e2e/services keeps what it has fetched.
func e2eHome() string {
	if home := os.Getenv("MILLRACE_E2E_HOME"); home != "" {
		return home
	}
	return filepath.Join(os.Getenv("HOME"), ".cache", "millrace-e2e")
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// flume runs Flume 1.11 on a tenth of the events (it is that much slower) and scales its times.
func (s *stage) flume(jars, conf string) func() (figure, error) {
	const part = 10
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		few := &stage{dir: filepath.Join(s.dir, "few"), bin: s.bin, events: s.events / part}
		if err := few.input(); err != nil {
			return figure{}, err
		}
		if err := few.config(dir, conf, 0); err != nil {
			return figure{}, err
		}
		f, err := few.runFlume(dir, jars, nil)
		f.wall, f.cpu = f.wall*part, f.cpu*part
		return f, err
	}
}

// runFlume runs the flume.conf of dir until all events were taken. Its start-up is not counted: time runs from the first
// event taken, or, where there is a feed, from when that says that it began.
func (s *stage) runFlume(dir, jars string, feed func() (began time.Time, err error)) (figure, error) {
	mon, err := freePort()
	if err != nil {
		return figure{}, err
	}
	p, err := startFlume(dir, jars, "-Dflume.monitoring.type=http", fmt.Sprint("-Dflume.monitoring.port=", mon))
	if err != nil {
		return figure{}, err
	}
	taken := func() int {
		var all map[string]map[string]string
		if get(fmt.Sprintf("http://127.0.0.1:%d/metrics", mon), &all) != nil {
			return 0
		}
		n, _ := strconv.Atoi(all["CHANNEL.c"]["EventTakeSuccessCount"])
		return n
	}
	var first time.Time
	if feed != nil {
		if first, err = feed(); err != nil {
			_, _ = p.stop()
			return figure{}, err
		}
	}
	err = p.until(10*time.Minute, func() bool {
		n := taken()
		if n > 0 && first.IsZero() {
			first = time.Now()
		}
		return n >= s.events
	})
	took := time.Since(first)
	f, stopped := p.stop()
	if err == nil {
		err = stopped
	}
	f.wall = took
	return f, err
}

// rsyslog tails the file with imfile and writes it with omfile.
func (s *stage) rsyslog(bin string) func() (figure, error) {
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		conf := fmt.Sprintf(`global(workDirectory="%[1]s/state" maxMessageSize="64k")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%%msg%%\n")
input(type="imfile" file="%[2]s" tag="x" addMetadata="off" readMode="0")
action(type="omfile" file="%[1]s/out/lines" template="raw" asyncWriting="on" ioBufferSize="256k")
`, dir, s.file())
		if err := os.WriteFile(filepath.Join(dir, "rsyslog.conf"), []byte(conf), 0o644); err != nil {
			return figure{}, err
		}
		p, err := start(dir, "log", bin, "-n", "-f", filepath.Join(dir, "rsyslog.conf"), "-i", filepath.Join(dir, "pid"))
		if err != nil {
			return figure{}, err
		}
		err = p.until(10*time.Minute, func() bool { return dirSize(filepath.Join(dir, "out")) >= s.size()-(1<<20) })
		took := time.Since(p.began) // the last buffer is written when it is a second old: not counted
		if err == nil {
			err = p.until(time.Minute, func() bool { return dirSize(filepath.Join(dir, "out")) >= s.size() })
		}
		f, stopped := p.stop()
		if err == nil {
			err = stopped
		}
		if n := dirSize(filepath.Join(dir, "out")); err == nil && n < s.size() {
			err = fmt.Errorf("%d bytes of %d written", n, s.size())
		}
		f.wall = took
		return f, err
	}
}

// syslogNG parses what comes and writes it to /dev/null.
func (s *stage) syslogNG(root string) func() (figure, error) {
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		port, err := freePort()
		if err != nil {
			return figure{}, err
		}
		conf := fmt.Sprintf(`@version: 3.38
options { stats-freq(0); keep-hostname(yes); log-fifo-size(400000); threaded(yes); };
source n { network(ip(127.0.0.1) port(%d) transport(tcp) flags(syslog-protocol) max-connections(100) log-iw-size(200000)); };
destination d { file("/dev/null"); };
log { source(n); destination(d); flags(flow-control); };
`, port)
		if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
			return figure{}, err
		}
		libs, _, err := libraries(root)
		if err != nil {
			return figure{}, err
		}
		p, err := startSyslogNG(dir, root)
		if err != nil {
			return figure{}, err
		}
		ctl := filepath.Join(dir, "ctl")
		if err := p.until(20*time.Second, func() bool { return exists(ctl) }); err != nil {
			return figure{}, err
		}
		written := func() int {
			cmd := exec.Command(filepath.Join(root, "usr/sbin/syslog-ng-ctl"), "stats", "-c", ctl)
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libs)
			out, _ := cmd.Output()
			for line := range bytes.Lines(out) {
				f := strings.Split(strings.TrimSpace(string(line)), ";")
				if len(f) == 6 && f[0] == "destination" && f[4] == "processed" {
					n, _ := strconv.Atoi(f[5])
					return n
				}
			}
			return 0
		}
		began := time.Now()
		if err := s.feedSyslog(fmt.Sprint("127.0.0.1:", port)); err != nil {
			return figure{}, err
		}
		err = p.until(10*time.Minute, func() bool { return written() >= s.events })
		took := time.Since(began)
		f, stopped := p.stop()
		if err == nil {
			err = stopped
		}
		f.wall = took
		return f, err
	}
}

// libraries finds the shared libraries and the modules of an unpacked syslog-ng.
func libraries(root string) (libs, modules string, err error) {
	seen := make(map[string]bool)
	var dirs []string
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		switch {
		case d.Name() == "libaffile.so":
			modules = dir
		case strings.Contains(d.Name(), ".so") && !seen[dir]:
			seen[dir] = true
			dirs = append(dirs, dir)
		}
		return nil
	})
	if modules == "" {
		return "", "", errors.Join(err, errors.New("no modules below "+root))
	}
	return strings.Join(dirs, ":"), modules, err
}
