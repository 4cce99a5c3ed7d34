package inject

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// fuzzOptions are small, so that the fuzzer's time goes into manifests.
func fuzzOptions() Options {
	o := Defaults("")
	o.ConfigMap, o.Headers, o.LogPaths = "conf", nil, []LogPath{{Dir: "/var/log/app"}}
	return o
}

// FuzzInject gives it any manifest: what it cannot do it says with the name of
// the file, and what it can do it can undo and do again.
func FuzzInject(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, in, _ := bytes.Cut(text, []byte("-- in --\n"))
		in, _, _ = bytes.Cut(in, []byte("\n-- out --\n"))
		in, _, _ = bytes.Cut(in, []byte("\n-- error --\n"))
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<14 {
			return
		}
		out, err := Inject("m.yaml", in, fuzzOptions())
		if err != nil {
			var fault *FieldError
			if !errors.As(err, &fault) || fault.File != "m.yaml" || fault.Text == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		again, err := Inject("m.yaml", out, fuzzOptions())
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("again: %v\n%q\n%q", err, out, again)
		}
		back, err := Uninject("m.yaml", out)
		if err != nil {
			t.Fatalf("back: %v\n%q", err, out)
		}
		if once, err := Uninject("m.yaml", back); err != nil || !bytes.Equal(once, back) {
			t.Fatalf("back twice: %v\n%q\n%q", err, back, once)
		}
	})
}
