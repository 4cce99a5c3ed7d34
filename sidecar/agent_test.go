package sidecar

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core/suite"
)

func TestLine(t *testing.T) {
	r := start(t, "-n", "a1", "-f", write(t, "a.conf", small+"a1.sources.r1.batchSize = 3\n")).ready()
	r.delivered("k1", 10)
	r.says("39 ") // the logger shows the body "9" as hexadecimal
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, r.err)
	}
	if l := r.lastLine(); l.Lost != 0 || l.Kept != 0 || l.Agent != "a1" || l.Level != "INFO" {
		t.Errorf("last line: %+v", l)
	}
	if n := strings.Count(r.err.String(), `"msg":"stopped"`); n != 1 {
		t.Errorf("%d last lines", n)
	}
}

// flows is a replicating source: everything must reach c1; c2 takes what it can.
const flows = `
a1.sources = r1
a1.channels = c1 c2
a1.sinks = k1
a1.sources.r1.type = seq
a1.sources.r1.totalEvents = 1000
a1.sources.r1.batchSize = 5
a1.sources.r1.channels = c1 c2
a1.sources.r1.selector.optional = c2
a1.channels.c1.type = memory
a1.channels.c2.type = memory
a1.channels.c2.capacity = 10
a1.channels.c2.transactionCapacity = 10
a1.sinks.k1.type = file_roll
a1.sinks.k1.channel = c1
a1.sinks.k1.sink.directory = ${sys:dir}
a1.sinks.k1.sink.rollInterval = 0
`

// An optional channel that is full neither stops nor fails the source. What is
// in it at the end is in memory only, and the exit code says so.
func TestReplicatingWithAFullOptionalChannel(t *testing.T) {
	dir := t.TempDir()
	r := start(t, "-Ddir="+dir, "-f", write(t, "a.conf", flows)).ready()
	r.delivered("k1", 1000)
	st := r.status()
	if st.Sources[0].Accepted != 1000 || st.Channels[1].Events != 10 {
		t.Errorf("status: %+v", st)
	}
	if text := r.get("/metrics"); !strings.Contains(text, `millrace_source_optional_channel_dropped_total{source="r1"} 990`) {
		t.Errorf("the drops are not counted: %s", text)
	}
	if code := r.stop(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	l := r.lastLine()
	if l.Lost != 10 || l.Level != "ERROR" || len(l.Left) != 1 || l.Left[0].Channel != "c2" || l.Left[0].Kept {
		t.Errorf("last line: %+v", l)
	}
	if got := lines(t, dir); len(got) != 1000 {
		t.Errorf("%d lines in files", len(got))
	}
}

// mapped is a multiplexing source for each kind of event, by a header.
func mapped(kinds ...string) string {
	var b strings.Builder
	var names []string
	for i, kind := range kinds {
		name := fmt.Sprintf("r%d", i)
		names = append(names, name)
		fmt.Fprintf(&b, `
a1.sources.%[1]s.type = seq
a1.sources.%[1]s.totalEvents = 100
a1.sources.%[1]s.channels = ca cb cd
a1.sources.%[1]s.interceptors = i1
a1.sources.%[1]s.interceptors.i1.type = static
a1.sources.%[1]s.interceptors.i1.key = kind
a1.sources.%[1]s.interceptors.i1.value = %[2]s
a1.sources.%[1]s.selector.type = multiplexing
a1.sources.%[1]s.selector.header = kind
a1.sources.%[1]s.selector.mapping.a = ca
a1.sources.%[1]s.selector.mapping.b = cb ca
a1.sources.%[1]s.selector.default = cd
`, name, kind)
	}
	fmt.Fprintf(&b, "a1.sources = %s\na1.channels = ca cb cd\na1.sinks = ka kb kd\n", strings.Join(names, " "))
	for _, c := range []string{"a", "b", "d"} {
		fmt.Fprintf(&b, `
a1.channels.c%[1]s.type = memory
a1.channels.c%[1]s.capacity = 1000
a1.sinks.k%[1]s.type = file_roll
a1.sinks.k%[1]s.channel = c%[1]s
a1.sinks.k%[1]s.sink.directory = ${sys:dir}/%[1]s
`, c)
	}
	return b.String()
}

func TestMultiplexing(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []string{"a", "b", "d"} {
		if err := os.Mkdir(filepath.Join(dir, c), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, "-Ddir="+dir, "-f", write(t, "a.conf", mapped("a", "b", "c", "d"))).ready()
	r.delivered("ka", 200)
	r.delivered("kb", 100)
	r.delivered("kd", 200)
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, r.err)
	}
	for c, want := range map[string]int{"a": 200, "b": 100, "d": 200} {
		if got := len(lines(t, filepath.Join(dir, c))); got != want {
			t.Errorf("%s: %d lines, want %d", c, got, want)
		}
	}
}

// lines are those of all files in a directory.
func lines(t *testing.T, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

// A second signal does not wait for a sink that cannot deliver.
func TestSecondSignal(t *testing.T) {
	conf := strings.ReplaceAll(flows, "a1.sinks.k1.sink.directory = ${sys:dir}", "a1.sinks.k1.sink.directory = ${sys:dir}/out")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf = strings.ReplaceAll(conf, "a1.sources.r1.totalEvents = 1000", "")
	conf = strings.ReplaceAll(conf, "a1.sinks = k1", "")
	r := start(t, "--drain-timeout", "1h", "-Ddir="+dir, "-f", write(t, "a.conf", conf)).ready()
	suite.Eventually(t, "the channel is full", func() bool { return r.status().Channels[0].Events >= 95 })
	r.signals <- syscall.SIGTERM
	r.says("draining")
	if code := r.stop(); code != exitFailed { // the second signal
		t.Errorf("exit code %d", code)
	}
	if l := r.lastLine(); l.Lost == 0 {
		t.Errorf("last line: %+v", l)
	}
}

func TestServers(t *testing.T) {
	port := freePort(t)
	r := start(t, "-Dflume.monitoring.type=http", "-Dflume.monitoring.port="+port, "-f", write(t, "a.conf", small)).ready()
	r.delivered("k1", 10)
	if code, _, said := call(t, nil, "healthcheck", "--ready", "--admin", r.admin()); code != exitOK {
		t.Errorf("healthcheck: %d %s", code, said)
	}
	answer, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, answer)
	for _, want := range []string{`"SOURCE.r1":{`, `"EventAcceptedCount":"10"`, `"EventDrainSuccessCount":"10"`, `"ChannelCapacity":"100"`} {
		if !strings.Contains(text, want) {
			t.Errorf("Flume's metrics lack %s: %s", want, text)
		}
	}
	if text := r.get("/metrics"); !strings.Contains(text, `millrace_sink_events_drained_total{sink="k1"} 10`) {
		t.Errorf("metrics: %s", text)
	}
	r.stop()
	if code, _, _ := call(t, nil, "healthcheck", "--admin", r.admin()); code != exitFailed {
		t.Errorf("healthcheck of a stopped agent: %d", code)
	}
}

// Ports that are taken: one that was asked for fails the start, Flume's monitoring is logged.
func TestTakenPorts(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	file := write(t, "a.conf", small)
	if code, _, said := call(t, nil, "agent", "-f", file, "--admin", "127.0.0.1:"+port); code != exitFailed || !strings.Contains(said, "admin server: listen") {
		t.Errorf("%d %s", code, said)
	}
	r := start(t, "-f", file, "-Dflume.monitoring.type=http", "-Dflume.monitoring.port="+port).ready()
	r.says("monitoring server does not run")
}

// Under Flume's name a source whose port is taken is tried again, and a signal ends that too.
func TestStopWhileStarting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	file := filepath.Join("testdata", "components", "source-netcat.conf")
	if code, _, said := call(t, nil, "agent", "--admin", "off", "-f", file, "-Dport="+port); code != exitFailed || !strings.Contains(said, "source r1 (netcat): ") {
		t.Errorf("strictly: %d %s", code, said)
	}
	r := start(t, "--lenient", "-f", file, "-Dport="+port)
	r.says("unable to start, will try again")
	if text := r.get("/healthz"); text != "ok\n" {
		t.Errorf("it lives: %q", text)
	}
	if ask(r.admin(), "/readyz", suite.Deadline) == nil {
		t.Error("ready without its source")
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, r.err)
	}
}

// Nothing that the agent shows holds a secret of its configuration.
func TestSecretsStayHidden(t *testing.T) {
	const secret = "open-sesame"
	conf := strings.NewReplacer("= seq", "= http", "a1.sources.r1.totalEvents = 10", "").Replace(small) + `
a1.sources.r1.bind = 127.0.0.1
a1.sources.r1.port = ${sys:port}
a1.sources.r1.basicAuth.ali = ${sys:secret}
a1.sources.r1.bearerTokens = ` + secret + `
a1.sources.r1.keystore-password = ` + secret + `
a1.sources.r1.unknown-password = ` + secret + "\n"
	file := write(t, "a.conf", conf)
	r := start(t, "--log", "json", "--log-level", "debug", "-Dport="+freePort(t), "-Dsecret="+secret, "-f", file).ready()
	shown := r.get("/status") + r.get("/metrics")
	r.stop()
	for _, format := range []string{"text", "json"} {
		_, out, said := call(t, nil, "validate", "--format", format, "-Dport=1", "-Dsecret="+secret, "-f", file)
		shown += out + said
	}
	if all := shown + r.err.String() + r.out.String(); strings.Contains(all, secret) {
		t.Errorf("the secret is out:\n%s", all)
	}
}

// Unix sockets: one a dead process left is replaced, one in use is not, and so is no other file.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	stream, gram := filepath.Join(dir, "stream"), filepath.Join(dir, "gram")
	for range 2 {
		l, err := listen("unix", stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listen("unix", stream); err == nil {
			t.Error("a socket in use was taken away")
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that is killed
		l.Close()

		c, err := listenPacket("unixgram", gram)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listenPacket("unixgram", gram); err == nil {
			t.Error("a datagram socket in use was taken away")
		}
		if info, err := os.Stat(gram); err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		c.(*packetSocket).UnixConn.Close()
	}
	c, err := listenPacket("unixgram", gram)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(gram); err == nil {
		t.Error("the socket is still there")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix", file); err == nil {
		t.Error("a file was taken for a socket")
	}
}

func TestMemoryLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n": 0, "": 0, "9223372036854771712\n": 0, "0": 0, "67108864\n": 60397977,
	} {
		if got, _ := memoryLimit(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
