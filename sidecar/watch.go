package sidecar

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"

	"github.com/millrace/millrace/core/conf"
)

// snapshot is the text of the configuration's files at one time, so that what
// was compared is what is read.
type snapshot []fileText

type fileText struct {
	name string
	text []byte
	err  error
	once bool // it is no regular file, and can be read only once

	login *url.Userinfo // of a URL
	said  fetched
}

// read is conf.Options.ReadFile.
func (s snapshot) read(name string) ([]byte, error) {
	for _, f := range s {
		if f.name == name {
			return f.text, f.err
		}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// takeSnapshot reads the files, and the URLs among them with those logins.
func takeSnapshot(files []string, logins map[string]*url.Userinfo) snapshot {
	s := make(snapshot, len(files))
	for i, name := range files {
		s[i] = fileText{name: name, login: logins[name]}.again()
	}
	return s
}

// again reads those files once more that can be.
func (s snapshot) again() snapshot {
	now := slices.Clone(s)
	for i, f := range s {
		if !f.once {
			now[i] = f.again()
		}
	}
	return now
}

// again reads the file once more. What comes from a server that cannot be asked
// any more is what it was.
func (t fileText) again() fileText {
	if !isWeb(t.name) {
		return readText(t.name)
	}
	text, said, fresh, err := fetch(t.name, t.login, t.said)
	switch {
	case fresh:
		t.text, t.said, t.err = text, said, err
	case t.text == nil:
		t.err = err
	}
	return t
}

// readText reads no more than it takes to see that a file is too large.
func readText(name string) fileText {
	t := fileText{name: name}
	f, err := os.Open(name)
	if err != nil {
		t.err = err
		return t
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		t.once = true
	}
	t.text, t.err = io.ReadAll(io.LimitReader(f, conf.MaxFile+1))
	return t
}

// watch tells when something happens in the directories of files. It is only a
// hint: what is not told is found by the poll.
type watch struct {
	files []string
	log   *slog.Logger
	w     *fsnotify.Watcher // nil: the system tells nothing
	dirs  []string
	hint  chan struct{}
	ended chan struct{}
}

func newWatch(files []string, deaf bool, log *slog.Logger) *watch {
	w := &watch{files: files, log: log, hint: make(chan struct{}, 1), ended: make(chan struct{})}
	if deaf {
		close(w.ended)
		return w
	}
	var err error
	if w.w, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("changes of the configuration are found by polling only", "error", err)
		w.w = nil
		close(w.ended)
		return w
	}
	go w.listen()
	w.follow()
	w.tell() // something may have changed since the files were read
	return w
}

func (w *watch) tell() {
	select {
	case w.hint <- struct{}{}:
	default:
	}
}

// listen makes one hint of any number of events. Errors (an overflow) are hints as well.
func (w *watch) listen() {
	defer close(w.ended)
	for events, errs := w.w.Events, w.w.Errors; ; {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case _, ok := <-errs:
			if !ok {
				return
			}
		}
		w.tell()
	}
}

// follow watches the directories in which the files are now, and those that
// their links lead to: a Kubernetes ConfigMap is changed by a link two steps on.
func (w *watch) follow() {
	if w.w == nil {
		return
	}
	var dirs []string
	add := func(dir string) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, name := range w.files {
		if isWeb(name) {
			continue
		}
		add(filepath.Dir(name))
		if real, err := filepath.EvalSymlinks(name); err == nil {
			add(filepath.Dir(real))
		}
	}
	for _, dir := range w.dirs {
		if !slices.Contains(dirs, dir) {
			_ = w.w.Remove(dir) // it may be gone
		}
	}
	w.dirs = nil
	for _, dir := range dirs {
		if err := w.w.Add(dir); err == nil {
			w.dirs = append(w.dirs, dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("changes of the configuration are found by polling only", "directory", dir, "error", err)
		}
	}
}

func (w *watch) changed() <-chan struct{} { return w.hint }

func (w *watch) close() {
	if w.w != nil {
		_ = w.w.Close() // it was a hint
	}
	<-w.ended
}
