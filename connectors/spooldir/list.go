package spooldir

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/javaregex"
)

// candidate is a file that may be read.
type candidate struct {
	rel   string // below the spool directory
	name  string
	ino   uint64
	mtime time.Time
}

// trouble is why a file is not read now. It is kept as long as the file is listed.
type trouble struct {
	why   string // as it was said
	until time.Time
	seen  uint64 // the listing that had the file
}

// next returns the file to read next, or nil.
func (t *spooler) next() *candidate {
	now := t.env.Now()
	// Younger files may have come: a list that took long is good for longer.
	stale := t.c.order != random && now.Sub(t.listedAt) >= max(t.c.poll, listShare*t.listTook)
	for again := true; ; again = false {
		for len(t.queue) > 0 && !stale {
			c := &t.queue[0]
			t.queue = t.queue[1:]
			if t.busy[c.rel] == nil && !t.troubled(c.rel, now) {
				t.waiting.Set(int64(len(t.queue)))
				return c
			}
		}
		if !again || now.Sub(t.listedAt) < t.c.poll && !t.listedAt.IsZero() && !stale {
			t.waiting.Set(0)
			return nil
		}
		stale = false
		t.list(now)
	}
}

// listShare makes listing take no more than so small a part of the time.
const listShare = 10

func (t *spooler) troubled(rel string, now time.Time) bool {
	x := t.troubles[rel]
	return x != nil && now.Before(x.until)
}

// list lists the directory anew.
func (t *spooler) list(now time.Time) {
	begun := time.Now()
	t.listings++
	t.queue = nil
	whole := t.walk("", now)
	switch t.c.order {
	case oldest, youngest:
		young := t.c.order == youngest
		slices.SortFunc(t.queue, func(a, b candidate) int {
			byTime := a.mtime.Compare(b.mtime)
			if young {
				byTime = -byTime
			}
			return cmp.Or(byTime, cmp.Compare(a.name, b.name), cmp.Compare(a.rel, b.rel))
		})
	}
	if whole {
		t.forgetVanished()
	}
	t.listedAt, t.listTook = now, time.Since(begun)
}

// walk adds the candidates in a directory. It reports whether it has seen them all.
func (t *spooler) walk(rel string, now time.Time) (whole bool) {
	entries, err := t.env.FS.ReadDir(filepath.Join(t.root, rel))
	if err != nil {
		if rel == "" || !errors.Is(err, fs.ErrNotExist) { // else it is gone since its parent was listed
			t.env.Metrics.EventReadFail.Add(1)
			t.trouble(cmp.Or(rel, "."), now.Add(t.c.poll), "list directory", err)
		}
		return false
	}
	delete(t.troubles, cmp.Or(rel, "."))
	var names map[string]bool // of finished files
	if t.renames() {
		names = make(map[string]bool)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), t.c.suffix) {
				names[e.Name()] = true
			}
		}
	}
	whole = true
	for _, e := range entries {
		name := e.Name()
		below := filepath.Join(rel, name)
		switch {
		case strings.HasPrefix(name, "."):
		case e.IsDir():
			if t.c.recursive && !t.matches(t.c.ignore, name) && filepath.Join(t.root, below) != t.trackerDir {
				whole = t.walk(below, now) && whole
			}
		case strings.HasSuffix(name, t.c.suffix), strings.HasSuffix(name, t.c.asideSuffix):
		case !t.matches(t.c.include, name), t.matches(t.c.ignore, name):
		default:
			if fi, ok := t.look(e, below); ok {
				t.listed(below, name, fi, names[name+t.c.suffix], now)
			}
		}
	}
	return whole
}

// look asks what kind of file it is. Links are followed; only what is a file
// with content can be read.
func (t *spooler) look(e fs.DirEntry, rel string) (fi fs.FileInfo, ok bool) {
	var err error
	if e.Type()&fs.ModeSymlink != 0 {
		fi, err = t.env.FS.Stat(filepath.Join(t.root, rel))
	} else {
		fi, err = e.Info()
	}
	return fi, err == nil && fi.Mode().IsRegular()
}

// listed takes in a file that the patterns let pass.
func (t *spooler) listed(rel, name string, fi fs.FileInfo, finished bool, now time.Time) {
	if x := t.troubles[rel]; x != nil {
		x.seen = t.listings
	}
	t.inodes[fileid.Of(fi).Ino] = t.listings
	if t.busy[rel] != nil {
		return
	}
	if t.c.deletePolicy == never && t.c.tracking == byTracker {
		if _, aside := t.tracked[rel+t.c.asideSuffix]; aside {
			return
		}
		if done, ok := t.tracked[rel+t.c.suffix]; ok {
			if fi.ModTime().After(done) {
				t.skip(rel, fi, "its tracker file is older than it: a file of that name was read before")
			}
			return
		}
	}
	if finished {
		t.skip(rel, fi, "there is "+name+t.c.suffix+" already: a file of that name was read before")
		return
	}
	t.queue = append(t.queue, candidate{rel: rel, name: name, ino: fileid.Of(fi).Ino, mtime: fi.ModTime()})
}

// skip says, once for each file of that name, that it is not read.
func (t *spooler) skip(rel string, fi fs.FileInfo, why string) {
	x := t.troubles[rel]
	key := why + fi.ModTime().String()
	if x != nil && x.why == key {
		return
	}
	t.troubles[rel] = &trouble{why: key, seen: t.listings}
	t.skipped.Add(1)
	t.log.Error("file is not read: "+why, "file", t.path(rel), "remedy", "give it another name, or take away what tells that it is finished")
}

// trouble says why a file is not read for a while, if that is new.
func (t *spooler) trouble(rel string, until time.Time, what string, err error) {
	why := what + err.Error()
	x := t.troubles[rel]
	if x == nil || x.why != why {
		t.log.Error(what+", will try again", "file", t.path(rel), "error", err)
	}
	t.troubles[rel] = &trouble{why: why, until: until, seen: t.listings}
}

func (t *spooler) matches(re *javaregex.Regexp, name string) bool {
	if re == nil {
		return true
	}
	ok, err := re.Match([]byte(name))
	return ok && err == nil // an expression that gives up does not match
}

// forgetVanished forgets what is told of files that are no longer there. It
// comes after a listing of everything.
func (t *spooler) forgetVanished() {
	for rel, x := range t.troubles {
		if x.seen != t.listings {
			delete(t.troubles, rel)
		}
	}
	t.line = slices.DeleteFunc(t.line, func(f *file) bool {
		if f.ended || t.inodes[f.id.Ino] == t.listings || t.underWay(f) {
			return false
		}
		t.log.Warn("file is gone before it was read to its end", "file", f.path)
		delete(t.files, f.identity)
		t.forget(f.stream)
		return true
	})
	t.known = slices.DeleteFunc(t.known, func(r record) bool {
		gone := t.inodes[r.ino] != t.listings
		if gone {
			t.forget(t.env.Name + ":" + r.stream)
		}
		return gone
	})
	for ino, seen := range t.inodes {
		if seen != t.listings {
			delete(t.inodes, ino)
		}
	}
}
