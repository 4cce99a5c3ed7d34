//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hdfsAsFlume runs a Flume 1.11 and Millrace on one configuration and one input:
// the files have names of the same form in the same directories, and file by
// file the same content.
func hdfsAsFlume(t *testing.T, nn nameNode, dir string) {
	n := pick(1000, 20000)
	count := n*3/10 - 1
	dir = filepath.Join(dir, "flume")
	must(t, os.MkdirAll(dir, 0o755))
	write(t, filepath.Join(dir, "app.log"), joined(lines("app", n)))
	env := func(who string) vars {
		return vars{"E2E_DIR": dir, "E2E_STATE": filepath.Join(dir, who), "E2E_HDFS": nn.uri + "/" + who, "E2E_COUNT": fmt.Sprint(count)}
	}
	sinks := []string{"plain", "headers", "gzip", "bzip2", "avro", "text", "writable", "block"}

	mon := port(t)
	theirs := env("flume")
	theirs["FLUME_HTTP_MON"], theirs["FLUME_HADOOP"] = mon, "1"
	must(t, os.MkdirAll(theirs["E2E_STATE"], 0o755))
	flume(t, "hdfs-flume.conf", theirs)
	a := newAgent(t, dir, "hdfs-flume.conf", env("ours")).start()
	eventually(t, "Millrace has delivered all, but for the files that are not full", func() bool {
		return int(a.metric("millrace_sink_events_drained_total")) == len(sinks)*n
	})
	a.stop()
	eventually(t, "Flume has delivered all", func() bool {
		text, _ := get("http://127.0.0.1:" + mon + "/metrics")
		return strings.Count(text, fmt.Sprintf(`"EventDrainSuccessCount":"%d"`, n)) == len(sinks)
	})
	stopFlume(t)()

	all := map[string][]stored{}
	for _, f := range nn.read(t, "/flume", "/ours") {
		p := strings.Split(f.path, "/")
		key := p[1] + " " + p[2]
		all[key] = append(all[key], f)
	}
	name := regexp.MustCompile(`^/(?:flume|ours)/(\w+)/2012-05-28-1300/app\.\d{13}(\.[a-z0-9]+)?$`)
	for _, sink := range sinks {
		theirs, ours := all["flume "+sink], all["ours "+sink]
		if len(theirs) != 4 || len(ours) != 4 {
			t.Errorf("%s: %d files by Flume, %d by Millrace, want 4 of each", sink, len(theirs), len(ours))
			continue
		}
		for i := range theirs {
			their, our := name.FindStringSubmatch(theirs[i].path), name.FindStringSubmatch(ours[i].path)
			if their == nil || our == nil || !slices.Equal(their[1:], our[1:]) {
				t.Errorf("%s: Flume's file is called %s, ours %s", sink, theirs[i].path, ours[i].path)
			}
			same(t, fmt.Sprint(sink, ", file ", i+1), theirs[i].lines, ours[i].lines)
		}
	}
	t.Logf("%d types, %d events in each, %d in a file", len(sinks), n, count)
}
