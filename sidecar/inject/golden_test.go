package inject_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/sidecar"
)

var update = flag.Bool("update", false, "write the golden files")

// golden is a file of testdata: the arguments, the manifest, and what becomes of it or is said.
//
//	args: --config app.conf          files are beside it
//	note: exact: no, because ...     --uninject gives the same manifest back, but not its bytes
//	-- in --
//	-- out --                        or -- error --
type golden struct {
	file    string
	args    []string
	note    string
	in, out string
	err     string
	fails   bool
}

func readGolden(t *testing.T, file string) golden {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), "-- in --\n")
	if !ok {
		t.Fatalf("%s has no input", file)
	}
	g := golden{file: file}
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "args", "args:":
			g.args = strings.Fields(value)
		case "note":
			g.note = value
		default:
			t.Fatalf("%s: %q", file, line)
		}
	}
	if in, out, ok := strings.Cut(rest, "\n-- out --\n"); ok {
		g.in, g.out = in, out
	} else if in, out, ok := strings.Cut(rest, "\n-- error --\n"); ok {
		g.in, g.err, g.fails = in, out, true
	} else {
		g.in = rest
	}
	return g
}

func (g golden) write(t *testing.T) {
	t.Helper()
	text := "args: " + strings.Join(g.args, " ") + "\n"
	if g.note != "" {
		text += "note: " + g.note + "\n"
	}
	text += "-- in --\n" + g.in
	if g.fails {
		text += "\n-- error --\n" + g.err
	} else {
		text += "\n-- out --\n" + g.out
	}
	if err := os.WriteFile(g.file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// run is one run of the command, in testdata.
func run(args []string, in string) (code int, out, said string) {
	var stdout, stderr bytes.Buffer
	code = sidecar.Run(sidecar.Program{
		Args: append([]string{"millrace", "inject"}, args...), Env: func(string) (string, bool) { return "", false },
		Stdin: strings.NewReader(in), Stdout: &stdout, Stderr: &stderr,
	})
	return code, stdout.String(), stderr.String()
}

func goldens(t *testing.T) []golden {
	t.Helper()
	t.Chdir("testdata")
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) < 60 {
		t.Fatal(len(files), err)
	}
	var all []golden
	for _, file := range files {
		all = append(all, readGolden(t, file))
	}
	return all
}

// Every manifest becomes what its golden file says, or is refused with what it says.
func TestGolden(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(strings.TrimSuffix(g.file, ".txt"), func(t *testing.T) {
			code, out, said := run(g.args, g.in)
			if code != 0 && out != "" {
				t.Errorf("it failed, and wrote %q", out)
			}
			if *update {
				g.fails, g.out, g.err = code != 0, out, said
				g.write(t)
				return
			}
			if (code != 0) != g.fails || out != g.out || g.fails && said != g.err {
				t.Errorf("exit code %d\n--- got\n%s%s--- want\n%s%s", code, out, said, g.out, g.err)
			}
		})
	}
}

// Injecting twice is injecting once; and what was injected can be taken out, to the byte unless a note says why not.
func TestAgainAndBack(t *testing.T) {
	for _, g := range goldens(t) {
		if g.fails {
			continue
		}
		t.Run(strings.TrimSuffix(g.file, ".txt"), func(t *testing.T) {
			if _, again, said := run(g.args, g.out); again != g.out {
				t.Errorf("again: %s\n%s", said, again)
			}
			_, back, said := run([]string{"--uninject"}, g.out)
			inexact := strings.HasPrefix(g.note, "exact: no")
			switch {
			case strings.HasPrefix(g.file, "uninject-") || strings.HasSuffix(g.file, "-uninject.txt") || strings.HasPrefix(g.file, "edited-"):
				if back != g.out {
					t.Errorf("taken out twice: %s", back)
				}
			case !inexact && back != g.in:
				t.Errorf("not as it was: %s\n%q\n%q", said, back, g.in)
			case inexact && back == g.in:
				t.Error("it is exact: the note is wrong")
			}
			if !strings.HasPrefix(g.file, "older-") && !strings.HasPrefix(g.file, "edited-") && !reflect.DeepEqual(meaning(t, back), meaning(t, g.in)) {
				t.Errorf("it means something else: %s", back)
			}
		})
	}
}

// A manifest as JSON gets the same as one in YAML: whoever has JSON, as a webhook has, gives the same pods.
func TestJSONGetsTheSame(t *testing.T) {
	for _, g := range goldens(t) {
		if g.fails || g.file == "null-fields.txt" { // the note says how null was written, which JSON does in one way
			continue
		}
		t.Run(strings.TrimSuffix(g.file, ".txt"), func(t *testing.T) {
			var in strings.Builder
			for _, doc := range meaning(t, g.in) {
				text, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				in.Write(append(text, '\n'))
			}
			_, out, said := run(g.args, in.String())
			if got, want := inJSON(t, meaning(t, out)), inJSON(t, meaning(t, g.out)); got != want {
				t.Errorf("%s\n%s\n%s", said, got, want)
			}
		})
	}
}

// meaning is what the documents say, without fields that are null.
func meaning(t *testing.T, text string) []any {
	t.Helper()
	var all []any
	var d interface{ Decode(v any) error } = yaml.NewDecoder(strings.NewReader(text))
	if strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{api") {
		d = json.NewDecoder(strings.NewReader(text))
	}
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if v = withoutNulls(v); v != nil {
			all = append(all, v)
		}
	}
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, c := range v {
			if c = withoutNulls(c); c == nil {
				delete(v, k)
			} else {
				v[k] = c
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

func inJSON(t *testing.T, all []any) string {
	t.Helper()
	var b strings.Builder
	for _, v := range all {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

// The configuration that a sidecar gets is valid in the environment that it gets.
func TestConfigurationIsValidInThePod(t *testing.T) {
	tried := 0
	for _, g := range goldens(t) {
		if g.fails {
			continue
		}
		docs := meaning(t, g.out)
		for _, doc := range docs {
			for env := range sidecarsOf(doc) {
				dir := t.TempDir()
				if !writeConfig(t, dir, docs, env["configMap"]) {
					continue // it is said to be there
				}
				tried++
				lookup := func(name string) (string, bool) {
					v, ok := env[name]
					switch {
					case name == "MILLRACE_CONF_FILE":
						v = strings.ReplaceAll(v, "/etc/millrace", dir)
					case strings.HasPrefix(name, "MILLRACE_"):
					case v == "" && (ok || strings.Contains(g.file, "environment-from")):
						return "1", true // a field of the pod, or a key of a Secret
					}
					return v, ok
				}
				var said bytes.Buffer
				code := sidecar.Run(sidecar.Program{
					Args: []string{"millrace", "agent", "--strict", "--validate-only"}, Env: lookup, Stdout: &said, Stderr: &said,
				})
				if code != 0 {
					t.Errorf("%s: %d %s", g.file, code, said.String())
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d were tried", tried)
	}
}

// sidecarsOf finds the sidecars in an object: the environment of each, and its ConfigMap under the name configMap.
func sidecarsOf(v any) iter.Seq[map[string]string] {
	return func(yield func(map[string]string) bool) { walkSidecars(v, yield) }
}

func walkSidecars(v any, yield func(map[string]string) bool) bool {
	switch v := v.(type) {
	case []any:
		for _, c := range v {
			if !walkSidecars(c, yield) {
				return false
			}
		}
	case map[string]any:
		if _, isPod := v["containers"]; isPod {
			if env := sidecarOf(v); env != nil {
				return yield(env)
			}
		}
		for _, c := range v {
			if !walkSidecars(c, yield) {
				return false
			}
		}
	}
	return true
}

func sidecarOf(spec map[string]any) map[string]string {
	env := make(map[string]string)
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := spec[list].([]any)
		for _, c := range containers {
			c := c.(map[string]any)
			if c["name"] != "millrace" {
				continue
			}
			for _, e := range c["env"].([]any) {
				e := e.(map[string]any)
				value, _ := e["value"].(string)
				env[e["name"].(string)] = value
			}
		}
	}
	volumes, _ := spec["volumes"].([]any)
	for _, v := range volumes {
		v := v.(map[string]any)
		if v["name"] == "millrace-config" {
			env["configMap"] = v["configMap"].(map[string]any)["name"].(string)
		}
	}
	if len(env) < 2 {
		return nil
	}
	return env
}

// writeConfig writes the files of a ConfigMap as a volume shows them.
func writeConfig(t *testing.T, dir string, docs []any, name string) bool {
	t.Helper()
	for _, doc := range docs {
		doc, _ := doc.(map[string]any)
		if doc["kind"] != "ConfigMap" || doc["metadata"].(map[string]any)["name"] != name {
			continue
		}
		for file, text := range doc["data"].(map[string]any) {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text.(string)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	return false
}
