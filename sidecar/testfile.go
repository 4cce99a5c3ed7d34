package sidecar

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxTestFile is how many bytes a file of tests may have.
const maxTestFile = 1 << 20

// testFile is what `millrace test` reads: a configuration and what is expected of it.
//
//	config: flume.conf              # beside this file; or several, later ones override
//	agent: a1                       # where the configuration has several
//	env: {KAFKA: "kafka:9092"}      # for ${env:NAME}; nothing else of the environment is seen
//	time: 2026-01-02T03:04:05Z      # what the clock shows; by default that of the machine
//	tests:
//	  - name: errors go to the fast channel as well
//	    source: web                 # where the agent has several
//	    channel: disk               # instead: it is there already, as in an agent without sources
//	    headers: {kind: error}
//	    body: disk full
//	    expect:
//	      channels: [disk, fast]    # exactly these
//	      headers: {host: ~^web\d+$, kind: error, token: null}   # ~: a regular expression; null: not there
//	      body: disk full
//	      paths: {files: /logs/2026-01-02/error}                 # by sink
//	  - name: noise is dropped
//	    source: web
//	    body: DEBUG
//	    expect: {dropped: true}
type testFile struct {
	Config oneOrMany
	Agent  string
	Env    map[string]string
	Time   time.Time
	Tests  []testCase
}

type testCase struct {
	Name, Source, Channel string
	Headers               map[string]string
	Body                  string
	Expect                expectation
	line                  int
}

// expectation is what a test says of its event; what it does not mention may be anything.
type expectation struct {
	Dropped  *bool
	Channels *[]string
	Headers  map[string]*string
	Body     *string
	Paths    map[string]string
}

func (e *expectation) empty() bool {
	return e.Dropped == nil && e.Channels == nil && e.Body == nil && len(e.Headers)+len(e.Paths) == 0
}

// oneOrMany is a list that may be written as its only member.
type oneOrMany []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *oneOrMany) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = oneOrMany{n.Value}
		return nil
	}
	return n.Decode((*[]string)(l))
}

// UnmarshalYAML implements yaml.Unmarshaler: it notes the line, and refuses unknown keys, which the decoder does not below here.
func (c *testCase) UnmarshalYAML(n *yaml.Node) error {
	type plain testCase
	c.line = n.Line
	if err := onlyKeys(n, "name", "source", "channel", "headers", "body", "expect"); err != nil {
		return err
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "expect" {
			continue
		}
		if err := onlyKeys(n.Content[i+1], "dropped", "channels", "headers", "body", "paths"); err != nil {
			return err
		}
	}
	return n.Decode((*plain)(c))
}

func onlyKeys(n *yaml.Node, keys ...string) error {
	if n.Kind != yaml.MappingNode {
		return nil // Decode says what is wrong
	}
	for i := 0; i < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(keys, k.Value) {
			return fmt.Errorf("line %d: unknown key %q; there are %s", k.Line, k.Value, strings.Join(keys, ", "))
		}
	}
	return nil
}

func readTestFile(name string) (*testFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTestFile+1))
	if err != nil {
		return nil, err
	}
	t, err := parseTests(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(t.Config) == 0 {
		t.Config = oneOrMany{strings.TrimSuffix(filepath.Base(name), ".test.yaml") + ".conf"}
	}
	for i, c := range t.Config {
		if !filepath.IsAbs(c) {
			t.Config[i] = filepath.Join(filepath.Dir(name), c)
		}
	}
	return t, nil
}

// parseTests reads a file of tests.
func parseTests(text []byte) (*testFile, error) {
	if len(text) > maxTestFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxTestFile)
	}
	t := new(testFile)
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(t); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(t.Tests) == 0 {
		return nil, errors.New("has no tests")
	}
	for i := range t.Tests {
		if t.Tests[i].Expect.empty() {
			return nil, fmt.Errorf("line %d: test %q expects nothing: say channels, headers, body, paths or dropped", t.Tests[i].line, t.Tests[i].Name)
		}
		if err := t.Tests[i].Expect.check(); err != nil {
			return nil, fmt.Errorf("line %d: test %q: %w", t.Tests[i].line, t.Tests[i].Name, err)
		}
	}
	return t, nil
}

// check compiles the regular expressions, to say early what is wrong with them.
func (e *expectation) check() error {
	all := []string{}
	for _, v := range e.Headers {
		if v != nil {
			all = append(all, *v)
		}
	}
	for _, v := range e.Paths {
		all = append(all, v)
	}
	if e.Body != nil {
		all = append(all, *e.Body)
	}
	for _, v := range all {
		if pattern, ok := strings.CutPrefix(v, "~"); ok {
			if _, err := regexp.Compile(pattern); err != nil {
				return err
			}
		}
	}
	return nil
}

// matches compares a text with what is expected of it: the same, or, behind ~, a regular expression.
func matches(want, got string) bool {
	if pattern, ok := strings.CutPrefix(want, "~"); ok {
		return regexp.MustCompile(pattern).MatchString(got) // check compiled it
	}
	return want == got
}
