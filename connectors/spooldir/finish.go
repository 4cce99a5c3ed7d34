package spooldir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core/vfs"
)

// finish ends the life of a file of which all is stored. It reports whether it is over.
func (t *spooler) finish(f *file, now time.Time) bool {
	dir, over, err := t.retire(f)
	if err != nil {
		t.env.Metrics.GenericProcessingFail.Add(1)
		t.retry = now.Add(max(retryTime, t.c.poll))
		t.trouble(f.rel, t.retry, "finish file", err)
		return false
	}
	if !over {
		return false
	}
	if f.aside == "" {
		t.finishedFiles.Add(1)
	}
	t.gone = append(t.gone, finished{dir, f.stream})
	return true
}

// retire renames, deletes or enters a file, and returns the directory whose
// names have changed. Not over: the file has grown, and is read on.
func (t *spooler) retire(f *file) (dir string, over bool, err error) {
	dir = filepath.Dir(f.path)
	fi, err := t.env.FS.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.log.Warn("file was taken away while its events were under way", "file", f.path)
		return dir, true, nil
	case err != nil:
		return "", false, err
	case fileid.Of(fi) != f.id:
		t.changed.Add(1)
		t.log.Warn("file was replaced by another one while its events were under way: that one is read as well", "file", f.path)
		return dir, true, nil
	case f.aside != "":
	case fi.Size() > f.size:
		t.grown(f)
		f.ended = false
		delete(t.busy, f.rel)
		return "", false, nil
	case fi.Size() != f.size || !fi.ModTime().Equal(f.mtime):
		t.changed.Add(1)
		f.aside = "it was changed after it was read"
	}
	suffix := t.c.suffix
	if f.aside != "" {
		suffix = t.c.asideSuffix
	}
	switch {
	case t.c.deletePolicy == immediate && f.aside == "":
		err = t.env.FS.Remove(f.path)
	case t.c.deletePolicy == never && t.c.tracking == byTracker:
		dir, err = t.enter(f, suffix, fi.ModTime())
	default:
		err = t.rename(f, suffix)
	}
	if err == nil && f.aside != "" {
		t.failed.Add(1)
		t.log.Error("file is set aside: it is not read on, and was marked with "+suffix, "file", f.path, "reason", f.aside)
	}
	return dir, err == nil, err
}

// rename adds the suffix to f's name, and a number if that name is taken.
func (t *spooler) rename(f *file, suffix string) error {
	to := f.path + suffix
	for n := 1; ; n++ {
		if _, err := t.env.FS.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		to = f.path + "." + strconv.Itoa(n) + suffix
	}
	if to != f.path+suffix {
		t.log.Error("file gets a number: the name of a finished file is taken", "file", f.path, "renamed", to)
	}
	return t.env.FS.Rename(f.path, to)
}

// enter makes the tracker file of f, which is newer than any change of f that was seen.
func (t *spooler) enter(f *file, suffix string, mtime time.Time) (dir string, err error) {
	path := filepath.Join(t.trackerDir, f.rel+suffix)
	dir = filepath.Dir(path)
	if err := vfs.MakeDir(t.env.FS, dir, 0o755); err != nil {
		return dir, err
	}
	made, err := t.env.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return dir, err
	}
	fi, err := made.Stat()
	if err := errors.Join(err, made.Close()); err != nil {
		return dir, err
	}
	if fi.ModTime().After(mtime) {
		mtime = fi.ModTime()
	}
	t.tracked[f.rel+suffix] = mtime
	return dir, nil
}
