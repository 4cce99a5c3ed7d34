package configfilter

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// File is the catalogue entry of the filter that reads secrets from files, as Kubernetes, Docker and systemd mount them.
var File = core.Type[conf.Filter]{
	Name: "file", Doc: "The value of a key is the content of the file of its name in a directory, as secrets are mounted.",
	New: func() conf.Filter { return new(file) },
}

// maxValue limits what a filter may give.
const maxValue = 64 << 10

type file struct{ dir string }

// Keys implements conf.Binder.
func (f *file) Keys(k *conf.Keys) {
	k.String(&f.dir, "dir", "", "Directory with one file for each key. Newlines at the end of a file do not count.").Required().Since("1.0")
}

// Value implements conf.Filter. A key has no separators, so it names a file of the directory itself.
func (f *file) Value(key string, _ func(string) (string, bool)) (string, bool, error) {
	in, err := os.Open(filepath.Join(f.dir, key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxValue+1))
	switch {
	case err != nil:
		return "", false, err
	case len(text) > maxValue:
		return "", false, fmt.Errorf("read %s: it is larger than %d bytes", in.Name(), maxValue)
	}
	return strings.TrimRight(string(text), "\r\n"), true, nil
}
