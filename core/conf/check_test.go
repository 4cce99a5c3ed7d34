package conf_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/millrace/millrace/core/conf"
)

var update = flag.Bool("update", false, "write what is expected in testdata anew")

// TestCheck runs the files of testdata/check. A file has cases, divided by ====; a case is a line with the agent and
// options (strict, lenient, offline, legacy, file=NAME for a second file), then text, ----, and what is said of it. Lines
// with # before it are comments.
//
// flume: TestAbstractPollableSource testExceptionStartup
// flume: TestRollingFileSink testTransCapBatchSizeCompatibility
func TestCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for c := range strings.SplitSeq(string(raw), "====\n") {
				input, want, _ := strings.Cut(c, "----\n")
				got := check(t, input)
				if diff := cmp.Diff(want, got); diff != "" && !*update {
					t.Errorf("%s-want +got:\n%s", input, diff)
				}
				all = append(all, input+"----\n"+got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(all, "====\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// check builds the agent of a case, and says what there is to say.
func check(t *testing.T, input string) string {
	for strings.HasPrefix(input, "# ") { // before the case; within it they are part of the configuration
		_, input, _ = strings.Cut(input, "\n")
	}
	head, text, _ := strings.Cut(input, "\n")
	words := strings.Fields(head)
	if len(words) < 2 || words[0] != "agent" {
		t.Fatalf("a case begins with the agent, not %q", head)
	}
	o := conf.Options{
		Files: []string{"a.conf"}, Sys: map[string]string{"place": "DEV"},
		Env: func(name string) (string, bool) {
			v, ok := map[string]string{"NC_PORT": "6667", "HOME": "/h", "SECRET": "open-sesame", "LOOP": "${env:LOOP}"}[name]
			return v, ok
		},
		Now: func() time.Time { return time.Date(2024, 2, 3, 16, 5, 6, 7e6, time.UTC) },
	}
	texts := map[string]string{}
	for _, w := range words[2:] {
		name, ok := strings.CutPrefix(w, "file=")
		switch {
		case ok:
			o.Files = append(o.Files, name)
			texts["a.conf"], texts[name], _ = strings.Cut(text, "=== "+name+"\n")
		case w == "legacy":
			o.Sys["propertiesImplementation"] = "org.apache.flume.node.EnvVarResolverProperties"
		default:
			o.Strict, o.Lenient, o.Offline = o.Strict || w == "strict", o.Lenient || w == "lenient", o.Offline || w == "offline"
		}
	}
	if len(texts) == 0 {
		texts["a.conf"] = text
	}
	o.ReadFile = func(name string) ([]byte, error) {
		if text, ok := texts[name]; ok && text != "" {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}
	loaded, faults := conf.Load(o)
	if loaded == nil {
		return join(faults)
	}
	agent, more := loaded.Build(words[1], catalog, o)
	return join(append(faults, more...)) + show(agent)
}

// show lists what runs.
func show(a *conf.Agent) string {
	if a == nil {
		return ""
	}
	var b strings.Builder
	for _, c := range a.Channels {
		fmt.Fprintf(&b, "channel %s %s%s\n", c.Name, c.Type, props(c))
	}
	for _, s := range a.Sources {
		fmt.Fprintf(&b, "source %s %s -> %s %v%s\n", s.Name, s.Type, s.Selector.Type, s.Channels, props(&s.Component))
		for _, i := range s.Interceptors {
			fmt.Fprintf(&b, "  interceptor %s %s%s\n", i.Name, i.Type, props(i))
		}
	}
	for _, s := range a.Sinks {
		fmt.Fprintf(&b, "sink %s %s <- %s%s\n", s.Name, s.Type, s.Channel, props(&s.Component))
	}
	for _, g := range a.Groups {
		fmt.Fprintf(&b, "group %s %s %v%s\n", g.Name, g.Type, g.Sinks, props(&g.Component))
	}
	for _, n := range a.Notices {
		fmt.Fprintf(&b, "notice %s: %s: %s\n", n.Pos, n.Key, n.Text)
	}
	return b.String()
}

func props(c *conf.Component) string {
	var b strings.Builder
	for _, p := range c.Redacted() {
		switch p.Key {
		case "type", "channel", "channels", "sinks":
		default:
			fmt.Fprintf(&b, " %s=%q", p.Key, p.Value)
		}
	}
	return b.String()
}

// What a reference leads to is not shown, and a secret not even as it is written.
func TestWritten(t *testing.T) {
	o := conf.FromText("a.conf", "a.channels = c\na.channels.c.type = memory\na.sources = r\na.sources.r.type = netcat\na.sources.r.channels = c\n"+
		"a.sources.r.bind = ${env:HOST}\na.sources.r.port = 1\na.sources.r.password = hidden${env:HOST}\n")
	o.Env = func(string) (string, bool) { return "example", true }
	text, _ := conf.Load(o)
	agent, faults := text.Build("a", catalog, o)
	if agent == nil {
		t.Fatal(faults)
	}
	got := map[string]string{}
	for _, p := range agent.Sources[0].Written() {
		got[p.Key] = p.Value
	}
	if got["bind"] != "${env:HOST}" || got["port"] != "1" || got["password"] != "******" {
		t.Errorf("%v", got)
	}
}
