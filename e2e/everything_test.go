//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// delivered is an event as HEADER_AND_TEXT writes it: {k=v, k2=v2} body.
type delivered struct {
	headers map[string]string
	body    string
}

func parseDelivered(t *testing.T, text string) delivered {
	t.Helper()
	head, body, ok := strings.Cut(text, "} ")
	if !ok || !strings.HasPrefix(head, "{") {
		t.Fatalf("no headers: %q", text)
	}
	d := delivered{make(map[string]string), body}
	for kv := range strings.SplitSeq(head[1:], ", ") {
		k, v, _ := strings.Cut(kv, "=")
		d.headers[k] = v
	}
	return d
}

// tool is a program that feeds the agent.
type tool struct {
	name    string
	via     string            // the source
	headers map[string]string // what every event must have
	feed    func(lines []string)
}

// head is what a syslog message has before its text: local3.warning, and where and when it was made.
const head = "<156>1 2026-02-03T04:05:06.789Z web-1 app 77 ID1 - "

// everything starts the agent that has all sources, and returns their ports.
func everything(t *testing.T, dir string) (vars, *agent) {
	t.Helper()
	v := vars{"E2E_CERTS": certs()}
	for _, name := range []string{"TCP", "TLS", "UDP", "LINES", "JSON", "WEB"} {
		v["E2E_"+name] = port(t)
	}
	return v, newAgent(t, dir, "everything.conf", v).start()
}

// sendTLS sends messages as a client that never reads, and closes at once.
func sendTLS(t *testing.T, port string, l []string) {
	t.Helper()
	run(t, head+strings.Join(l, "\n"+head)+"\n", "ncat", "--send-only", "--ssl-verify", "--ssl-trustfile", certs()+"/ca.pem", "localhost", port)
}

// TestTLSSendAndClose: what a server sends to a client that closes without
// having read it (session tickets of TLS 1.3) makes the client's kernel reset
// the connection, and messages that are still in ours are gone with it.
func TestTLSSendAndClose(t *testing.T) {
	dir := workDir(t)
	ports, a := everything(t, dir)
	var all []string
	for i := range pick(6, 30) {
		l := lines("sender"+strconv.Itoa(i), 3000)
		all = append(all, l...)
		sendTLS(t, ports["E2E_TLS"], l)
	}
	out := filepath.Join(dir, "disk")
	wait(t, func() bool { return countRolled(out) >= len(all) })
	a.stop()
	var got []string
	for _, text := range rolled(t, out) {
		got = append(got, text[strings.Index(text, linePrefix(text)):])
	}
	slices.Sort(all) // the connections overlap
	slices.Sort(got)
	same(t, "lines", all, got)
}

// TestEverything: one agent takes what logger, ncat, curl, rsyslog and
// syslog-ng send, in all their ways, follows a file and runs a command, and
// stores each event in two channels. All events arrive in both, those of one
// tool in order, with the right headers.
func TestEverything(t *testing.T) {
	dir := workDir(t)
	n := pick(100, 1000)
	write(t, filepath.Join(dir, "in/command.txt"), "")
	ports, a := everything(t, dir)
	tcp, tls, udp, lns, jsn, web := ports["E2E_TCP"], ports["E2E_TLS"], ports["E2E_UDP"], ports["E2E_LINES"], ports["E2E_JSON"], ports["E2E_WEB"]

	prio := map[string]string{"Facility": "19", "Severity": "4"}
	full := map[string]string{"Facility": "19", "Severity": "4", "host": "web-1", "timestamp": "1770091506789"}
	// syslog-ng sends whole seconds unless told otherwise
	whole := map[string]string{"Facility": "19", "Severity": "4", "host": "web-1", "timestamp": "1770091506000"}
	bsd := map[string]string{"Facility": "19", "Severity": "4", "host": "web-1"}
	logger := func(args ...string) func([]string) {
		return func(l []string) {
			run(t, joined(l), "logger", append([]string{"-n", "127.0.0.1", "-t", "app", "-p", "local3.warning"}, args...)...)
		}
	}
	// through sends full messages into a forwarder, over its own TCP input.
	through := func(script, mode, name, host, to string) func([]string) {
		in := port(t)
		daemon(t, nil, script, "forward", name, in, host, to, mode)
		return func(l []string) {
			run(t, head+strings.Join(l, "\n"+head)+"\n", "ncat", "--send-only", "127.0.0.1", in)
		}
	}
	curl := func(args ...string) string {
		return run(t, "", "curl", append([]string{"-sS", "-o", "/dev/null", "-w", "%{http_code}"}, args...)...)
	}

	tools := []tool{
		{"logger-3164", "tcp", prio, logger("-P", tcp, "-T", "--rfc3164")},
		{"logger-5424", "tcp", prio, logger("-P", tcp, "-T", "--rfc5424")},
		{"logger-octets", "tcp", prio, logger("-P", tcp, "-T", "--rfc5424", "--octet-count")},
		{"logger-udp-3164", "udp", prio, logger("-P", udp, "-d", "--rfc3164")},
		{"logger-udp-5424", "udp", prio, logger("-P", udp, "-d", "--rfc5424")},
		{"rsyslog-tcp", "tcp", full, through("rsyslog.sh", "tcp", "e2e-tcp", "127.0.0.1", tcp)},
		{"rsyslog-octets", "tcp", full, through("rsyslog.sh", "tcp-octet", "e2e-octets", "127.0.0.1", tcp)},
		{"rsyslog-tls", "tls", full, through("rsyslog.sh", "tls", "e2e-tls", "localhost", tls)},
		{"rsyslog-udp", "udp", full, through("rsyslog.sh", "udp", "e2e-udp", "127.0.0.1", udp)},
		{"syslog-ng-bsd", "tcp", bsd, through("syslog-ng.sh", "bsd", "e2e-bsd", "127.0.0.1", tcp)},
		{"syslog-ng-5424", "tcp", whole, through("syslog-ng.sh", "rfc5424", "e2e-5424", "127.0.0.1", tcp)},
		{"syslog-ng-tls", "tls", whole, through("syslog-ng.sh", "tls", "e2e-tls", "localhost", tls)},
		{"ncat-tls", "tls", full, func(l []string) { sendTLS(t, tls, l) }},
		{"ncat", "lines", nil, func(l []string) {
			if oks := run(t, joined(l), "ncat", "127.0.0.1", lns); oks != strings.Repeat("OK\n", len(l)) {
				t.Errorf("ncat: %d lines, answered %d bytes: %.80q", len(l), len(oks), oks)
			}
		}},
		{"curl-json", "json", map[string]string{"tool": "curl", "timestamp": "1770091506789"}, func(l []string) {
			type event struct {
				Headers map[string]string `json:"headers"`
				Body    string            `json:"body"`
			}
			for batch := range slices.Chunk(l, 40) {
				var events []event
				for _, text := range batch {
					events = append(events, event{map[string]string{"tool": "curl", "timestamp": "1770091506789"}, text})
				}
				text, err := json.Marshal(events)
				must(t, err)
				file := filepath.Join(dir, "events.json")
				write(t, file, string(text))
				if code := curl("-H", "Content-Type: application/json", "--data-binary", "@"+file, "http://127.0.0.1:"+jsn+"/"); code != "200" {
					t.Errorf("curl: JSON answered %s", code)
				}
			}
		}},
		{"curl-lines", "web", nil, func(l []string) {
			file := filepath.Join(dir, "lines.txt")
			write(t, file, joined(l))
			url := []string{"--cacert", certs() + "/ca.pem", "-H", "Content-Type: text/plain", "--data-binary", "@" + file, "https://localhost:" + web + "/"}
			for user, want := range map[string]string{"feeder:wrong": "401", "nobody:secret": "401"} {
				if code := curl(append([]string{"-u", user}, url...)...); code != want {
					t.Errorf("curl: %s answered %s", user, code)
				}
			}
			if code := curl(append([]string{"-u", "feeder:secret"}, url...)...); code != "200" {
				t.Errorf("curl: lines answered %s", code)
			}
		}},
		{"file", "files", map[string]string{"file": filepath.Join(dir, "in/app.log")}, func(l []string) {
			appendTo(t, filepath.Join(dir, "in/app.log"), joined(l))
		}},
		{"command", "command", nil, func(l []string) {
			appendTo(t, filepath.Join(dir, "in/command.txt"), joined(l))
		}},
	}

	for _, x := range tools {
		x.feed(lines(x.name, n))
	}
	disk, memory := filepath.Join(dir, "disk"), filepath.Join(dir, "memory")
	wait(t, func() bool { return countRolled(disk) >= n*len(tools) && countRolled(memory) >= n*len(tools) })
	a.stop()
	if left := a.lastLine().Left; len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	for channel, out := range map[string]string{"disk": disk, "memory": memory} {
		got := make(map[string][]string) // lines by the tool they name
		wrong := make(map[string]bool)
		for _, text := range rolled(t, out) {
			d := parseDelivered(t, text)
			// Before the line a syslog body may have a tag and structured data.
			at := strings.Index(d.body, linePrefix(d.body))
			writer, _, ok := read(d.body[at:])
			if !ok {
				t.Errorf("%s: not a line: %.120q", channel, text)
				continue
			}
			got[writer] = append(got[writer], d.body[at:])
			for _, x := range tools {
				if x.name != writer || wrong[writer] {
					continue
				}
				if d.headers["via"] != x.via {
					wrong[writer] = true
					t.Errorf("%s: %s came by source %s: %.120q", channel, x.name, d.headers["via"], text)
				}
				for k, v := range x.headers {
					if d.headers[k] != v {
						wrong[writer] = true
						t.Errorf("%s: %s: header %s is %q, not %q: %.160q", channel, x.name, k, d.headers[k], v, text)
					}
				}
			}
		}
		for _, x := range tools {
			same(t, channel+": "+x.name, lines(x.name, n), got[x.name])
			delete(got, x.name)
		}
		for x, l := range got {
			t.Errorf("%s: %d lines of nobody: %s", channel, len(l), x)
		}
	}
	t.Logf("%d tools, %d lines each, %d channels", len(tools), n, 2)
}
