package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const tailMatrix = parts + onDisk + `
a1.sources.r.type = taildir
a1.sources.r.filegroups = g
a1.sources.r.filegroups.g = DIR/logs/.*\\.log
a1.sources.r.positionFile = DIR/state/positions.json
a1.sources.r.idleTimeout = 2000
` + roll

// tailers are this program, and the peers that are installed.
func (s *stage) tailers() []tailer {
	all := []tailer{{"millrace", "taildir, file channel, file_roll", func(dir string) (*proc, error) {
		if err := s.config(dir, tailMatrix, 0); err != nil {
			return nil, err
		}
		return start(dir, "log", s.bin, "agent", "-n", "a1", "-f", "flume.conf", "--admin", "off")
	}}}
	if !s.peers {
		return all
	}
	if jars := filepath.Join(e2eHome(), "lib", "flume"); exists(jars) {
		all = append(all, tailer{"flume", "1.11, TAILDIR, file channel, file_roll", func(dir string) (*proc, error) {
			if err := s.config(dir, tailMatrix, 0); err != nil {
				return nil, err
			}
			return startFlume(dir, jars)
		}})
	}
	if bin, err := exec.LookPath("rsyslogd"); err == nil {
		all = append(all, tailer{"rsyslog", "imfile (inotify, state written after every line), main queue in memory as by default, omfile", func(dir string) (*proc, error) { return startImfile(dir, bin) }})
	}
	if root := filepath.Join(e2eHome(), "syslog-ng"); exists(filepath.Join(root, "usr", "sbin", "syslog-ng")) {
		all = append(all, tailer{"syslog-ng", "wildcard-file, flow control, file", func(dir string) (*proc, error) { return startWildcard(dir, root) }})
	}
	return all
}

func startImfile(dir, bin string) (*proc, error) {
	conf := fmt.Sprintf(`global(workDirectory="%[1]s/state" maxMessageSize="64k")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%%msg%%\n")
input(type="imfile" file="%[1]s/logs/*.log" tag="x" addMetadata="off" persistStateInterval="1" reopenOnTruncate="on" readTimeout="2")
action(type="omfile" file="%[1]s/out/lines" template="raw")
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "rsyslog.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(dir, "pid")) // of one that was killed
	return start(dir, "log", bin, "-n", "-f", filepath.Join(dir, "rsyslog.conf"), "-i", filepath.Join(dir, "pid"))
}

func startWildcard(dir, root string) (*proc, error) {
	conf := fmt.Sprintf(`@version: 3.38
options { stats-freq(0); keep-hostname(yes); };
source n { wildcard-file(base-dir("%[1]s/logs") filename-pattern("*.log") recursive(no) follow-freq(0.2) flags(no-parse)); };
destination d { file("%[1]s/out/lines" template("$MSG\n")); };
log { source(n); destination(d); flags(flow-control); };
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return startSyslogNG(dir, root)
}

// startFlume runs the flume.conf of dir.
func startFlume(dir, jars string, options ...string) (*proc, error) {
	args := strings.Fields("-XX:+UseSerialGC -Xmx512m --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED")
	args = append(append(args, options...), "-cp", jars+"/*", "org.apache.flume.node.Application", "-n", "a1", "-f", "flume.conf", "--no-reload-conf")
	return start(dir, "log", "java", args...)
}

// startSyslogNG runs the conf of dir, with its control socket in ctl.
func startSyslogNG(dir, root string) (*proc, error) {
	libs, modules, err := libraries(root)
	if err != nil {
		return nil, err
	}
	return start(dir, "log", "env", "LD_LIBRARY_PATH="+libs, filepath.Join(root, "usr/sbin/syslog-ng"), "-F", "--no-caps",
		"-f", filepath.Join(dir, "conf"), "-R", filepath.Join(dir, "persist"), "-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "ctl"), "--module-path", modules)
}
