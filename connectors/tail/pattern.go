package tail

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// group is a file group: names in one directory, and the headers of their events.
type group struct {
	name    string
	place   int // in the list of groups
	dir     string
	re      *regexp.Regexp
	headers core.Headers
}

// makeGroup reads a group's pattern: a literal directory, then an expression
// that must match the whole of a file's name.
func makeGroup(name, pattern string) (*group, error) {
	pattern = strings.TrimRight(pattern, "/")
	i := strings.LastIndexByte(pattern, '/')
	dir, expr := ".", pattern
	switch {
	case i == 0:
		dir, expr = "/", pattern[1:]
	case i > 0:
		dir, expr = pattern[:i], pattern[i+1:]
	}
	if expr == "" {
		return nil, fmt.Errorf("%q names no file", pattern)
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		// Of two faults that of the expression as written is the clearer one.
		if _, e := regexp.Compile(expr); e != nil {
			err = e
		}
		return nil, fmt.Errorf("%w: after the last slash comes a regular expression (RE2)", err)
	}
	return &group{name: name, dir: dir, re: re}, nil
}

// bindGroups makes the groups from their keys and reports the faults.
func (s *source) bindGroups(r *conf.Report) {
	s.groups = nil
	byName := make(map[string]*group)
	for _, name := range s.names {
		pattern, ok := s.patterns[name]
		switch {
		case !ok:
			r.Warn("filegroups", "group %q has no filegroups.%s: it is ignored", name, name)
			continue
		case byName[name] != nil:
			continue
		}
		g, err := makeGroup(name, pattern)
		if err != nil {
			r.Error("filegroups."+name, "%v", err)
			continue
		}
		g.place = len(s.groups)
		byName[name] = g
		s.groups = append(s.groups, g)
	}
	if len(byName) == 0 {
		r.Error("filegroups", "no group has a pattern")
	}
	for _, name := range slices.Sorted(maps.Keys(s.patterns)) {
		if !slices.Contains(s.names, name) {
			r.Warn("filegroups."+name, "group %q is not in filegroups: it is ignored", name)
		}
	}
	headers := make(map[string][]core.Header)
	for _, key := range slices.Sorted(maps.Keys(s.headers)) {
		name, header, ok := strings.Cut(key, ".")
		switch {
		case !ok || header == "":
			r.Error("headers."+key, "names no header: headers.<group>.<name>")
		case byName[name] == nil:
			r.Warn("headers."+key, "there is no group %q: it is ignored", name)
		default:
			headers[name] = append(headers[name], core.Header{Key: header, Value: s.headers[key]})
		}
	}
	for name, kv := range headers {
		byName[name].headers = core.NewHeaders(kv...)
	}
}

// match returns the first group that has the name, or nil.
func (d *dir) match(name string) *group {
	for _, g := range d.groups {
		if g.re.MatchString(name) {
			return g
		}
	}
	return nil
}

// makeDirs joins groups by directory, with absolute paths as the file header has them.
func makeDirs(groups []*group) ([]*dir, error) {
	var dirs []*dir
	for _, g := range groups {
		path, err := filepath.Abs(g.dir)
		if err != nil {
			return nil, fmt.Errorf("find directory of group %s: %w", g.name, err)
		}
		i := slices.IndexFunc(dirs, func(d *dir) bool { return d.path == path })
		if i < 0 {
			i = len(dirs)
			dirs = append(dirs, &dir{path: path, files: make(map[string]*file), held: make(map[string]held), before: make(map[string]*file)})
		}
		dirs[i].groups = append(dirs[i].groups, g)
	}
	return dirs, nil
}

// stem is the part of a name that rotation keeps: app of app.log, which
// becomes app.log.1 or app.2026-01-31.log.
func stem(name string) string {
	if i := strings.IndexByte(name, '.'); i > 0 {
		return name[:i]
	}
	return name
}

// kin reports whether one of two files may be named after the other, as rotation
// and copies are: app.log, app.log.1, app-20260131.log.
func kin(a, b string) bool { return strings.HasPrefix(a, stem(b)) || strings.HasPrefix(b, stem(a)) }
