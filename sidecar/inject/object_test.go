package inject

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// apply is a JSON Patch done to a value, by the words of RFC 6902.
func apply(t *testing.T, doc any, patch []byte) any {
	t.Helper()
	var ops []struct {
		Op, Path string
		Value    any
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatalf("%v: %s", err, patch)
	}
	for _, op := range ops {
		keys := strings.Split(op.Path, "/")[1:]
		if op.Path == "" {
			doc = op.Value
			continue
		}
		var err error
		if doc, err = step(doc, keys, op.Op, op.Value); err != nil {
			t.Fatalf("%s %s: %v", op.Op, op.Path, err)
		}
	}
	return doc
}

// step does one operation below v and returns what v becomes.
func step(v any, keys []string, op string, value any) (any, error) {
	key := strings.NewReplacer("~1", "/", "~0", "~").Replace(keys[0])
	last := len(keys) == 1
	switch v := v.(type) {
	case map[string]any:
		child, there := v[key]
		switch {
		case !last:
			if !there {
				return nil, fmt.Errorf("there is no %q", key)
			}
			child, err := step(child, keys[1:], op, value)
			v[key] = child
			return v, err
		case op != "add" && !there:
			return nil, fmt.Errorf("there is no %q", key)
		case op == "remove":
			delete(v, key)
		default:
			v[key] = value
		}
		return v, nil
	case []any:
		if last && op == "add" && key == "-" {
			return append(v, value), nil
		}
		i, err := strconv.Atoi(key)
		if err != nil || i >= len(v) || last && op != "replace" {
			return nil, fmt.Errorf("%s at %q of %d", op, key, len(v))
		}
		if last {
			v[i] = value
			return v, nil
		}
		v[i], err = step(v[i], keys[1:], op, value)
		return v, err
	}
	return nil, fmt.Errorf("%q is below what is neither object nor list", key)
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// objectsOf are the objects of the input of a golden file as JSON, and its options with a ConfigMap that is there.
func objectsOf(t *testing.T, file string) (objects [][]byte, o Options) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, in, _ := strings.Cut(string(text), "-- in --\n")
	in, _, _ = strings.Cut(in, "\n-- out --\n")
	in, _, _ = strings.Cut(in, "\n-- error --\n")
	o = Defaults("")
	o.ConfigMap = "conf"
	args := strings.Fields(strings.TrimPrefix(strings.SplitN(head, "\n", 2)[0], "args:"))
	for i, arg := range args {
		o.Classic = o.Classic || arg == "--classic"
		for _, s := range append(Settings(), Lists()...) {
			if arg == "--"+s.Name && i+1 < len(args) {
				_ = s.Set(&o, args[i+1]) // some are there to be refused
			}
		}
	}
	docs, err := split(file, []byte(in))
	if err != nil {
		return nil, o // not all can be read
	}
	for _, d := range docs {
		if d.root == nil {
			continue
		}
		// Aliases and merges are written out, as they are on their way to a server.
		var v any
		if d.json {
			v = decoded(t, d.text)
		} else if err := d.root.Decode(&v); err != nil {
			continue
		}
		items := []any{v}
		if m, ok := v.(map[string]any); ok {
			if list, ok := m["items"].([]any); ok {
				items = list
			}
		}
		for _, item := range items {
			if text, err := json.Marshal(item); err == nil {
				objects = append(objects, text)
			}
		}
	}
	return objects, o
}

// What a patch makes of an object is what Inject makes of it as a manifest; where
// one refuses the other does, and what has the sidecar is left as it is.
func TestObjectIsAsInject(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	patched, refused := 0, 0
	for _, file := range files {
		objects, o := objectsOf(t, file)
		for _, object := range objects {
			patch, left, err := Object(object, o, true)
			if left != "" {
				continue
			}
			want, wrong := Inject("object", object, o)
			if (err == nil) != (wrong == nil) {
				t.Errorf("%s: %v, but inject: %v", file, err, wrong)
				continue
			}
			if err != nil {
				refused++
				continue
			}
			patched++
			got := apply(t, decoded(t, object), patch)
			if !reflect.DeepEqual(got, decoded(t, want)) {
				t.Errorf("%s:\n%s\ngives %v\nwant %s", file, patch, got, want)
			}
			if patch, left, err := Object(want, o, true); patch != nil || left != LeftInjected || err != nil {
				t.Errorf("%s: again: %s %q %v", file, patch, left, err)
			}
		}
	}
	if patched < 60 || refused < 10 {
		t.Errorf("only %d were patched and %d refused", patched, refused)
	}
}

// Which objects are left as they are, and why.
func TestObjectLeft(t *testing.T) {
	o := Defaults("")
	o.ConfigMap = "conf"
	pod := func(annotations string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","annotations":` + annotations + `},"spec":{"containers":[{"name":"app"}]}}`
	}
	for _, c := range []struct {
		object string
		all    bool
		left   Left
	}{
		{pod(`{"a":"b"}`), false, LeftUnasked},
		{pod(`null`), false, LeftUnasked},
		{pod(`{"a":"b"}`), true, ""},
		{pod(`{"millrace/inject":"true"}`), false, ""},
		{pod(`{"millrace/log-path":"/var/log/app"}`), false, ""},
		{pod(`{"millrace/inject":"false","millrace/log-path":"/var/log/app"}`), false, LeftOff},
		{pod(`{"millrace/inject":"false"}`), true, LeftOff},
		{pod(`{"millrace/inject":"true","millrace/injected":"{}"}`), false, LeftInjected},
		{pod(`{"millrace/inject":"true","kubernetes.io/config.mirror":"x"}`), true, LeftMirror},
		{`{"apiVersion":"v1","kind":"Service"}`, true, LeftOther},
	} {
		patch, left, err := Object([]byte(c.object), o, c.all)
		if err != nil || left != c.left || (patch == nil) != (left != "") {
			t.Errorf("%s: %s %q %v", c.object, patch, left, err)
		}
	}
	o.ConfigMap = ""
	if _, _, err := Object([]byte(pod(`{"millrace/inject":"true"}`)), o, false); err == nil || !strings.Contains(err.Error(), "millrace/configmap") {
		t.Error(err)
	}
	for _, bad := range []string{`{`, `{"a":1,"a":2}`, `[]x`, strings.Repeat("[", 300) + strings.Repeat("]", 300)} {
		if _, _, err := Object([]byte(bad), o, false); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// Patches of lists that shrink or of values that change kind, which injecting never makes, are right as well.
func TestDifference(t *testing.T) {
	for _, c := range [][2]string{
		{`{"a":1}`, `{"a":2}`},
		{`{"a":1,"b~/c":2}`, `{"a":1}`},
		{`{"a/b":{"c~":1}}`, `{"a/b":{"c~":[1]}}`},
		{`{"a":[1,2,3]}`, `{"a":[1]}`},
		{`{"a":[1,{"b":2}]}`, `{"a":[1,{"b":3},4,[5]]}`},
		{`{"a":null}`, `{"a":{}}`},
		{`[1]`, `{"a":null}`},
	} {
		trees := [2]*yaml.Node{}
		for i, text := range c {
			tree, err := FromJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			trees[i] = tree
		}
		patch, err := difference(trees[0], trees[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := apply(t, decoded(t, []byte(c[0])), patch); !reflect.DeepEqual(got, decoded(t, []byte(c[1]))) {
			t.Errorf("%s by %s is %v", c, patch, got)
		}
	}
}
