package sidecar

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const routed = `a1.sources = web
a1.channels = all errors
a1.sinks = lake
a1.sources.web.type = http
a1.sources.web.port = 1
a1.sources.web.channels = all errors
a1.sources.web.interceptors = noise when
a1.sources.web.interceptors.noise.type = regex_filter
a1.sources.web.interceptors.noise.regex = ^DEBUG
a1.sources.web.interceptors.noise.excludeEvents = true
a1.sources.web.interceptors.when.type = timestamp
a1.sources.web.selector.type = multiplexing
a1.sources.web.selector.header = level
a1.sources.web.selector.mapping.error = all errors
a1.sources.web.selector.mapping.info = all
a1.channels.all.type = memory
a1.channels.errors.type = memory
a1.sinks.lake.type = hdfs
a1.sinks.lake.channel = all
a1.sinks.lake.hdfs.path = hdfs://names/${env:ROOT}/%{level}/%Y-%m-%d
a1.sinks.lake.hdfs.timeZone = UTC
a1.sinks.lake.hdfs.filePrefix = %{level}
`

func testTree(t *testing.T, tests string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"flow.conf": routed, "flow.test.yaml": "env: {ROOT: lake}\ntime: 2026-01-02T03:04:05Z\n" + tests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "flow.test.yaml")
}

func TestTestPasses(t *testing.T) {
	file := testTree(t, `tests:
  - name: an error
    headers: {level: error}
    body: disk full
    expect:
      channels: [errors, all]
      headers: {level: ~^err, timestamp: "1767323045000", other: null}
      body: ~full$
      paths: {lake: hdfs://names/lake/error/2026-01-02/error}
  - name: noise
    body: DEBUG x
    expect: {dropped: true}
  - name: no channel for it
    headers: {level: none}
    expect: {dropped: true}
  - name: what is in a channel already
    channel: all
    headers: {level: info, timestamp: "1767323045000"}
    expect: {paths: {lake: hdfs://names/lake/info/2026-01-02/info}}
`)
	code, out, errs := call(t, map[string]string{"ROOT": "not seen"}, "test", file)
	if code != exitOK || !strings.Contains(out, "ok    an error") || !strings.Contains(out, "4 passed, 0 failed") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if _, out, _ := call(t, nil, "test", "-q", file); out != "" {
		t.Errorf("quiet, and says %q", out)
	}
}

func TestTestFails(t *testing.T) {
	for _, c := range []struct{ name, test, want string }{
		{"channels", "headers: {level: error}, expect: {channels: [all]}", "channels: got all errors, want all"},
		{"header", "headers: {level: info}, expect: {headers: {level: error}}", `header level: got "info", want "error"`},
		{"no header", "headers: {level: info}, expect: {headers: {host: x}}", "header host: is not there"},
		{"a header too many", "headers: {level: info}, expect: {headers: {level: null}}", `header level: got "info", want none`},
		{"body", "headers: {level: info}, body: a, expect: {body: b}", `body: got "a", want "b"`},
		{"path", "headers: {level: info}, expect: {paths: {lake: /x}}", `got "hdfs://names/lake/info/2026-01-02/info", want "/x"`},
		{"no such sink", "headers: {level: info}, expect: {paths: {pond: /x}}", "there is no such sink; there are lake"},
		{"dropped", "body: DEBUG, expect: {channels: [all]}", "the event is dropped"},
		{"not dropped", "headers: {level: info}, expect: {dropped: true}", "is not dropped: it goes to all"},
		{"no such channel", "channel: none, expect: {channels: [all]}", `"none" is none of the agent's; there are all errors`},
		{"source and channel", "source: web, channel: all, expect: {channels: [all]}", "comes from a source or is in a channel"},
		{"no such source", "source: tail, expect: {dropped: true}", `"tail" is none of the agent's; there are web`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := call(t, nil, "test", testTree(t, "tests:\n  - {name: x, "+c.test+"}\n"))
			if code != exitFailed || !strings.Contains(out, c.want) || !strings.Contains(out, "flow.test.yaml:4") || !strings.Contains(out, "0 passed, 1 failed") {
				t.Errorf("%d %s %s", code, out, errs)
			}
		})
	}
}

func TestTestRefuses(t *testing.T) {
	for _, c := range []struct{ tests, want string }{
		{"tests: []\n", "has no tests"},
		{"tests:\n  - {name: x, body: b}\n", "line 4: test \"x\" expects nothing"},
		{"tests:\n  - {name: x, expect: {chanels: [a]}}\n", `unknown key "chanels"`},
		{"tests:\n  - {nam: x, expect: {dropped: true}}\n", `unknown key "nam"`},
		{"tets:\n  - {name: x, expect: {dropped: true}}\n", "field tets not found"},
		{"config: other.conf\ntests:\n  - {name: x, expect: {dropped: true}}\n", "other.conf"},
		{"tests:\n  - {name: x, expect: {body: '~('}}\n", "missing closing"},
	} {
		code, _, errs := call(t, nil, "test", testTree(t, c.tests))
		if code != exitConfig || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", c.tests, code, errs)
		}
	}
	if code, _, _ := call(t, nil, "test"); code != exitUsage {
		t.Errorf("without a file: %d", code)
	}
}

func FuzzTestFile(f *testing.F) {
	f.Add([]byte("tests:\n  - {name: x, headers: {a: b}, expect: {channels: [c], body: ~x, headers: {a: null}}}\n"))
	f.Add([]byte("config: [a, b]\nenv: {A: b}\ntime: 2026-01-02T03:04:05Z\ntests: [&a {expect: {dropped: true}}, *a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parseTests(text)
		if err != nil {
			return
		}
		for _, c := range parsed.Tests {
			if c.Expect.empty() {
				t.Error("a test that expects nothing was taken")
			}
			for _, v := range c.Expect.Headers {
				if v != nil {
					matches(*v, "") // does not panic
				}
			}
		}
	})
}
