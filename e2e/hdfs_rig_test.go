//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nameNode is a running HDFS.
type nameNode struct {
	name string
	uri  string
	port int
	dir  string // of what the service keeps, Hadoop's configuration for clients in conf-cli
}

// hdfs starts one with so many data nodes; env is that of services/hdfs.sh.
func hdfs(t *testing.T, dataNodes int, env vars) nameNode {
	t.Helper()
	// Below those that the system gives to whoever connects: a daemon that comes
	// back must find its own free.
	base := 20000 + rand.IntN(600)*20
	for !free(base, base+20) {
		base = 20000 + rand.IntN(600)*20
	}
	name := fmt.Sprint("n", base)
	daemon(t, env, "hdfs.sh", "start", name, fmt.Sprint(base), fmt.Sprint(dataNodes))
	return nameNode{name, fmt.Sprintf("hdfs://localhost:%d", base), base, filepath.Join(runDir(), "hdfs-"+name)}
}

// runDir is where the services write.
func runDir() string {
	if dir := os.Getenv("MILLRACE_E2E_RUN"); dir != "" {
		return dir
	}
	h, _ := os.UserHomeDir()
	return filepath.Join(h, ".cache/millrace-e2e/run")
}

// do runs the script with the cluster's name.
func (n nameNode) do(t *testing.T, what string, args ...string) {
	t.Helper()
	service(t, nil, "hdfs.sh", append([]string{what, n.name}, args...)...)
}

// out is what the script prints.
func (n nameNode) out(t *testing.T, what string, args ...string) string {
	t.Helper()
	var errs strings.Builder
	c := exec.Command("bash", append([]string{"services/hdfs.sh", what, n.name}, args...)...)
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("hdfs.sh %s %s: %v\n%s", what, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// stored is a file as Hadoop shows it.
type stored struct {
	path   string
	length int64
	owner  string
	lines  []string // of its text, or its records
}

// inUse reports whether the sink still writes it, by its name.
func (f stored) inUse() bool { return strings.HasSuffix(f.path, ".tmp") }

// list returns the files below a directory, without their lines, by WebHDFS. It
// is for clusters without Kerberos. False: the name node does not answer.
func (n nameNode) list(t *testing.T, dir string) ([]stored, bool) {
	t.Helper()
	text, code := get(fmt.Sprintf("http://127.0.0.1:%d/webhdfs/v1%s?op=LISTSTATUS&user.name=root", n.port+1, dir))
	switch code {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, true
	default:
		return nil, false
	}
	var answer struct {
		FileStatuses struct {
			FileStatus []struct {
				PathSuffix, Type, Owner string
				Length                  int64
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var all []stored
	for _, f := range answer.FileStatuses.FileStatus {
		path := dir + "/" + f.PathSuffix
		if f.Type == "FILE" {
			all = append(all, stored{path: path, length: f.Length, owner: f.Owner})
			continue
		}
		below, ok := n.list(t, path)
		if !ok {
			return nil, false
		}
		all = append(all, below...)
	}
	return all, true
}

// read returns the files below directories, in the order of their names, as Hadoop reads them.
func (n nameNode) read(t *testing.T, dirs ...string) (all []stored) {
	t.Helper()
	for l := range strings.Lines(n.out(t, "java", append([]string{"clients/HadoopText.java"}, dirs...)...)) {
		l = strings.TrimSuffix(l, "\n")
		if rest, ok := strings.CutPrefix(l, "== "); ok {
			if len(all) > 0 { // the empty line belongs to the header; it ends a text without its last newline
				last := &all[len(all)-1]
				if k := len(last.lines) - 1; k >= 0 && last.lines[k] == "" {
					last.lines = last.lines[:k]
				}
			}
			f := strings.Fields(rest)
			length, err := strconv.ParseInt(f[1], 10, 64)
			must(t, err)
			all = append(all, stored{path: f[0], length: length, owner: f[2]})
			continue
		}
		if len(all) > 0 {
			last := &all[len(all)-1]
			last.lines = append(last.lines, l)
		}
	}
	return all
}

// blockOf finds a block in what fsck prints: its name and length.
var blockOf = regexp.MustCompile(`(blk_\d+)_\d+ len=(\d+)`)

// replicas waits until every data node has every block of every file, each
// replica as long as the block: on the disks, for what the name node believes
// may be wrong.
func (n nameNode) replicas(t *testing.T, nodes int) {
	t.Helper()
	blocks := blockOf.FindAllStringSubmatch(n.out(t, "fsck", "/", "-files", "-blocks"), -1)
	if len(blocks) == 0 {
		t.Error("no file has a block")
	}
	differ := func() (names []string) {
		found := map[string][]string{}
		for i := range nodes {
			root := filepath.Join(n.dir, fmt.Sprint("data-dn", i+1))
			must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !strings.HasPrefix(d.Name(), "blk_") {
					return nil // a file may go while we look
				}
				if info, err := d.Info(); err == nil {
					found[d.Name()] = append(found[d.Name()], fmt.Sprint(info.Size()))
				}
				return nil
			}))
		}
		for _, b := range blocks {
			if got := found[b[1]]; !slices.Equal(got, slices.Repeat(b[2:], nodes)) {
				names = append(names, fmt.Sprint(b[1], " of ", b[2], ": ", got))
			}
		}
		return names
	}
	left := differ()
	for end := time.Now().Add(patience); len(left) > 0; left = differ() {
		if time.Now().After(end) {
			t.Errorf("of %d blocks, %d have not %d replicas of their length:%s", len(blocks), len(left), nodes, few(left))
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("%d blocks, each %d times on the disks and as long everywhere", len(blocks), nodes)
}

// stream is an agent that follows a log into HDFS.
type stream struct {
	*agent
	nn      nameNode
	root    string // in HDFS
	log     string
	writer  string
	written int // lines in the log
}

// newStream makes one, with a configuration that has the variables of hdfs.conf.
func newStream(t *testing.T, nn nameNode, dir, conf, writer string, env vars) *stream {
	t.Helper()
	dir = filepath.Join(dir, writer)
	s := &stream{nn: nn, root: "/" + writer, log: filepath.Join(dir, "app.log"), writer: writer}
	write(t, s.log, "")
	all := vars{"E2E_HDFS": nn.uri + s.root, "HADOOP_CONF_DIR": filepath.Join(nn.dir, "conf-cli")}
	for k, v := range env {
		all[k] = v
	}
	s.agent = newAgent(t, dir, conf, all)
	return s
}

// grow adds lines to the log.
func (s *stream) grow(n int) {
	s.t.Helper()
	var text strings.Builder
	for range n {
		s.written++
		text.WriteString(line(s.writer, s.written))
		text.WriteByte('\n')
	}
	appendTo(s.t, s.log, text.String())
}

// delivers waits until something more is delivered, and adds lines until then.
func (s *stream) delivers(what string) {
	s.t.Helper()
	before := s.metric("millrace_sink_events_drained_total")
	for end := time.Now().Add(3 * patience); s.metric("millrace_sink_events_drained_total") <= before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: nothing is delivered", what)
		}
		s.grow(100)
	}
}

// finished waits until all lines are in files with their final names, by what
// Hadoop reads, and returns these files.
func (s *stream) finished() []stored {
	s.t.Helper()
	var left []stored
	for end := time.Now().Add(5 * patience); ; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not finished: %d events in the channel, in use %v", s.writer, int(s.metric("millrace_channel_events")), left)
		}
		files, ok := s.nn.list(s.t, s.root)
		left = slices.DeleteFunc(files, func(f stored) bool { return !f.inUse() })
		if !ok || len(left) > 0 || len(files) == 0 || s.metric("millrace_channel_events") > 0 {
			continue
		}
		all := s.nn.read(s.t, s.root)
		if len(bodies(all)) >= s.written {
			return all
		}
	}
}

// read waits as finished does, by Hadoop's own programs alone: WebHDFS wants
// Kerberos too, or is not at the same address for ever.
func (s *stream) read(t *testing.T) []stored {
	t.Helper()
	for end := time.Now().Add(5 * patience); ; time.Sleep(2 * time.Second) { // each look starts a JVM
		names := s.nn.out(t, "sh", "-ls", "-R", s.root)
		n := 0
		if !strings.Contains(names, ".tmp") && s.metric("millrace_channel_events") == 0 {
			files := s.nn.read(t, s.root)
			if n = len(bodies(files)); n >= s.written {
				return files
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not finished: %d lines of %d in\n%s", s.writer, n, s.written, names)
		}
	}
}

// bodies are the lines of files, in any order; of a record its value.
func bodies(files []stored) (all []string) {
	for _, f := range files {
		for _, l := range f.lines {
			if strings.HasPrefix(l, "classes ") {
				continue
			}
			if _, value, ok := strings.Cut(l, "\t"); ok {
				l = value
			}
			all = append(all, l)
		}
	}
	slices.Sort(all)
	return all
}

// exactly fails the test unless the files hold each line once, and says so.
func (s *stream) exactly(files []stored) {
	s.t.Helper()
	want := lines(s.writer, s.written)
	slices.Sort(want)
	same(s.t, s.writer, want, bodies(files))
}
