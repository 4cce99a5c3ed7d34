package conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits on what ${...} may make of one value: enough for any honest file, and an end to the others.
const (
	maxExpanded = 1 << 20 // bytes of the result
	maxDepth    = 100     // references within references
	maxLookups  = 10_000  // references followed
)

// legacyProperties is the value of -DpropertiesImplementation that lets ${NAME} fall back on the environment.
const legacyProperties = "org.apache.flume.node.EnvVarResolverProperties"

// resolver replaces ${...} as StringSubstitutor of commons-text does, with the lookups Flume has on by default.
type resolver struct {
	raw    map[string]string // the complete table: the order of keys plays no part
	sys    map[string]string
	env    func(string) (string, bool)
	now    time.Time
	legacy bool

	used       map[string]bool // keys of raw that were referred to
	unresolved []string        // names of the present value that stay as they are
	lookups    int             // of the present value
}

// expandError is why a value can not be resolved; it never holds a value.
type expandError struct{ text, hint string }

func (e *expandError) Error() string { return e.text }

// resolve gives the value with its references replaced; those that lead nowhere stay, and are listed in r.unresolved.
func (r *resolver) resolve(value string) (string, error) {
	r.unresolved, r.lookups = nil, 0
	if !strings.Contains(value, "${") {
		return value, nil
	}
	if len(value) > maxExpanded {
		return "", &expandError{fmt.Sprintf("a value with references is longer than %d bytes", maxExpanded), ""}
	}
	return r.substitute(value, nil)
}

// substitute follows StringSubstitutor.substitute step by step. prior are the names being replaced right now.
func (r *resolver) substitute(text string, prior []string) (string, error) {
	if len(prior) > maxDepth {
		return "", &expandError{fmt.Sprintf("references are nested more than %d deep", maxDepth), ""}
	}
	out := make([]byte, 0, len(text))
	for pos := 0; pos < len(text); {
		if !strings.HasPrefix(text[pos:], "${") {
			out = append(out, text[pos])
			pos++
			continue
		}
		end := closing(text, pos+2)
		if end < 0 { // never closed: the rest is text
			out = append(out, text[pos:]...)
			break
		}
		if r.lookups++; r.lookups > maxLookups {
			return "", &expandError{fmt.Sprintf("the value has more than %d references", maxLookups), ""}
		}
		if n := len(out); n > 0 && out[n-1] == '$' {
			// $${name} is ${name}; references inside of the name are still replaced.
			out = append(out[:n-1], "${"...)
			pos += 2
			continue
		}
		value, ok, err := r.reference(text[pos+2:end], prior)
		if err != nil {
			return "", err
		}
		if !ok {
			value = text[pos : end+1]
		}
		if out = append(out, value...); len(out) > maxExpanded {
			return "", &expandError{fmt.Sprintf("the value grows beyond %d bytes", maxExpanded), ""}
		}
		pos = end + 1
	}
	return string(out), nil
}

// closing is the index of the brace that closes a reference whose name begins at from, or -1.
func closing(text string, from int) int {
	open := 0
	for i := from; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "${"):
			open++
			i++
		case text[i] == '}' && open == 0:
			return i
		case text[i] == '}':
			open--
		}
	}
	return -1
}

// reference gives the value of ${expr}; not ok: it stays as written.
func (r *resolver) reference(expr string, prior []string) (value string, ok bool, err error) {
	if strings.Contains(expr, "${") {
		if expr, err = r.substitute(expr, append(slices.Clip(prior), "")); err != nil {
			return "", false, err
		}
	}
	name, fallback, hasFallback := strings.Cut(expr, ":-")
	if slices.Contains(prior, name) && name != "" {
		return "", false, &expandError{"${" + name + "} refers to itself", "a reference must end at a value"}
	}
	value, ok, err = r.lookup(name)
	if err != nil {
		return "", false, err
	}
	if !ok && hasFallback {
		value, ok = fallback, true
	}
	if !ok {
		if !slices.Contains(r.unresolved, name) {
			r.unresolved = append(r.unresolved, name)
		}
		return "", false, nil
	}
	value, err = r.substitute(value, append(slices.Clip(prior), name))
	return value, true, err
}

// lookup finds the value of a name with or without a prefix.
func (r *resolver) lookup(name string) (value string, ok bool, err error) {
	if prefix, rest, has := strings.Cut(name, ":"); has {
		switch strings.ToLower(prefix) {
		case "env":
			value, ok = r.env(rest)
		case "sys":
			value, ok = r.system(rest)
		case "date":
			if value, err = formatDate(rest, r.now); err != nil {
				return "", false, &expandError{"${" + name + "}: " + err.Error(), "the text after date: is a SimpleDateFormat pattern"}
			}
			ok = true
		}
		if ok {
			return value, true, nil
		}
		name = rest
	}
	if value, ok = r.raw[name]; ok {
		r.used[name] = true
		return value, true, nil
	}
	if r.legacy {
		value, ok = r.env(name)
	}
	return value, ok, nil
}

// system is ${sys:name}: what -D sets, and the few properties of every JVM that configurations use.
func (r *resolver) system(name string) (string, bool) {
	if v, ok := r.sys[name]; ok {
		return v, true
	}
	switch name {
	case "user.home":
		return r.env("HOME")
	case "user.name":
		return r.env("USER")
	case "java.io.tmpdir":
		return "/tmp", true
	case "file.separator":
		return "/", true
	}
	return "", false
}

// unresolvedHint tells what may have been meant by ${name}.
func (r *resolver) unresolvedHint(name string) string {
	prefix, rest, has := strings.Cut(name, ":")
	switch strings.ToLower(prefix) {
	case "env":
		if has {
			return "environment variable " + rest + " is not set; ${" + name + ":-text} gives a default"
		}
	case "sys":
		if has {
			return "start with -D" + rest + "=... or give a default: ${" + name + ":-text}"
		}
	case "java":
		if has {
			return "there is no Java to describe"
		}
	}
	if _, set := r.env(name); set {
		return "did you mean ${env:" + name + "}?"
	}
	if has {
		return "lookups are env, sys and date; write $${" + name + "} if that is what the value shall be"
	}
	return "no key has that name; write $${" + name + "} if that is what the value shall be"
}

// hintOf is the hint an error of resolve carries.
func hintOf(err error) string {
	var e *expandError
	if errors.As(err, &e) {
		return e.hint
	}
	return ""
}
