package conf

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
)

// Keys are the keys of one component. Its methods declare them; [Build] or [Bind] then reads the values and sets the
// fields behind the pointers. Until then, and where a key is absent or faulty, a field has its default.
//
// A name ends at the component: batchSize, hdfs.path. Declaring one name twice panics, as does a default that is not of
// its type: the component is broken then, not the configuration.
type Keys struct {
	list        []*Key
	checks      []func(*Report)
	batch       *sized
	transaction *sized
	linger      *time.Duration
	shared      bool

	// The state of binding.
	prefix  string // a1.sources.r1.
	pos     Pos    // of the component
	members []string
	common  bool                // the keys declared now are those of the kind
	below   []string            // prefixes of what is bound apart: interceptors.
	set     map[string]Property // own name of a key that is set: where, and its value
	broken  map[string]bool     // full keys whose value is not known; a fault was reported
	lost    bool                // one of the keys is broken
	secrets map[string]bool     // own names of properties with a secret value
	notices []Notice
	faults  Faults
}

type sized struct {
	name string
	n    *int
}

// Key is one declared key. Its methods add to it and return it.
type Key struct {
	name      string
	doc       KeyDoc
	isMap     bool
	inert     bool
	orDefault bool
	required  bool
	unread    []string // aliases that Flume does not read
	rules     []Rule
	read      func(text string) (value, error) // reads without effect; nil for maps and inert keys
	storeMap  func(map[string]string)
}

func (k *Keys) add(name, typ, def, doc string, read func(string) (value, error)) *Key {
	key := &Key{name: name, read: read, doc: KeyDoc{Name: name, Type: typ, Default: def, Doc: doc}}
	for _, other := range k.list {
		if other.name != name {
			continue
		}
		if k.common {
			return key // the component's own key goes before
		}
		panic("conf: key " + name + " is declared twice")
	}
	k.list = append(k.list, key)
	return key
}

// Bool is true for the word true in any case, and false for everything else.
func (k *Keys) Bool(p *bool, name string, def bool, doc string) *Key {
	*p = def
	return k.add(name, "boolean", strconv.FormatBool(def), doc, func(text string) (value, error) {
		b, doubt, hint := parseBool(text)
		v, err := number(0, func() { *p = b })
		v.isNum, v.doubt, v.hint = false, doubt, hint
		return v, err
	})
}

// Int is a whole number of 32 bits, as Flume's int; use [Keys.Int64] where Flume reads a long. The default may be any.
func (k *Keys) Int(p *int, name string, def int, doc string) *Key {
	*p = def
	return k.add(name, "int", strconv.Itoa(def), doc, func(text string) (value, error) {
		n, err := parseInt(text, math.MinInt32, math.MaxInt32)
		if err != nil {
			return value{}, err
		}
		return number(float64(n), func() { *p = int(n) })
	})
}

// Int64 is a whole number of 64 bits, as Flume's long.
func (k *Keys) Int64(p *int64, name string, def int64, doc string) *Key {
	*p = def
	return k.add(name, "long", strconv.FormatInt(def, 10), doc, func(text string) (value, error) {
		n, err := parseInt(text, math.MinInt64, math.MaxInt64)
		if err != nil {
			return value{}, err
		}
		return number(float64(n), func() { *p = n })
	})
}

// Float64 is a number with or without a fraction.
func (k *Keys) Float64(p *float64, name string, def float64, doc string) *Key {
	*p = def
	return k.add(name, "float", plain(def), doc, func(text string) (value, error) {
		f, err := parseFloat(text)
		if err != nil {
			return value{}, err
		}
		return number(f, func() { *p = f })
	})
}

// String is the value as it stands, without blanks around it.
func (k *Keys) String(p *string, name, def, doc string) *Key {
	*p = def
	return k.add(name, "string", def, doc, func(text string) (value, error) {
		return value{words: []string{text}, store: func(w []string) { *p = w[0] }}, nil
	})
}

// Func is a text that read checks and stores; its error is a predicate on the value: `is not a charset`. def is for
// documentation only. read runs at most once, before the rules, and only when the key is set.
func (k *Keys) Func(name, typ, def, doc string, read func(text string) error) *Key {
	return k.add(name, typ, def, doc, func(text string) (value, error) {
		if err := read(text); err != nil {
			return value{}, fmt.Errorf("%q %w", text, err)
		}
		return value{words: []string{text}, store: func([]string) {}}, nil
	})
}

// Millis is a whole number of milliseconds, or a duration such as 1.5s.
func (k *Keys) Millis(p *time.Duration, name string, def time.Duration, doc string) *Key {
	return k.duration(p, name, def, time.Millisecond, doc).Unit("ms")
}

// Seconds is a whole number of seconds, or a duration such as 1.5s.
func (k *Keys) Seconds(p *time.Duration, name string, def time.Duration, doc string) *Key {
	return k.duration(p, name, def, time.Second, doc).Unit("s")
}

func (k *Keys) duration(p *time.Duration, name string, def, unit time.Duration, doc string) *Key {
	*p = def
	shown := plain(float64(def) / float64(unit))
	return k.add(name, "duration", shown, doc, func(text string) (value, error) {
		d, err := parseDuration(text, unit)
		if err != nil {
			return value{}, err
		}
		return number(float64(d)/float64(unit), func() { *p = d })
	})
}

// Bytes is a whole number of bytes, or of 1024s of them: 64k, 64KiB, 1m, 1MiB, 1g, 1GiB.
func (k *Keys) Bytes(p *int64, name string, def int64, doc string) *Key {
	*p = def
	return k.add(name, "size", strconv.FormatInt(def, 10), doc, func(text string) (value, error) {
		n, err := parseBytes(text)
		if err != nil {
			return value{}, err
		}
		return number(float64(n), func() { *p = n })
	}).Unit("bytes")
}

// Words is a list separated by white space; the default is what *p holds.
func (k *Keys) Words(p *[]string, name, doc string) *Key {
	return k.add(name, "words", strings.Join(*p, " "), doc, func(text string) (value, error) {
		return value{words: words(text), store: func(w []string) { *p = w }}, nil
	})
}

// Commas is a list separated by commas, with or without blanks around them; the default is what *p holds.
func (k *Keys) Commas(p *[]string, name, doc string) *Key {
	return k.add(name, "comma list", strings.Join(*p, ","), doc, func(text string) (value, error) {
		var list []string
		for word := range strings.SplitSeq(text, ",") {
			if word = javaTrim(word); word != "" {
				list = append(list, word)
			}
		}
		return value{words: list, store: func(w []string) { *p = w }}, nil
	})
}

// Regexp is a regular expression of Go, RE2; with an empty default *p is nil.
func (k *Keys) Regexp(p **regexp.Regexp, name, def, doc string) *Key {
	*p = nil
	if def != "" {
		*p = regexp.MustCompile(def)
	}
	return k.add(name, "regexp", def, doc, func(text string) (value, error) {
		re, err := regexp.Compile(text)
		if err != nil {
			return value{}, regexpError(err)
		}
		return value{words: []string{text}, store: func([]string) { *p = re }}, nil
	})
}

// regexpError says what is wrong with an expression that Java may well take.
func regexpError(err error) error {
	var bad *syntax.Error
	if errors.As(err, &bad) {
		switch bad.Code {
		case syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape, syntax.ErrInvalidRepeatOp, syntax.ErrInvalidCharRange,
			syntax.ErrInvalidNamedCapture:
			return fmt.Errorf("%w: likely a construct that only Java has (look-around, back-reference, possessive quantifier)", err)
		}
	}
	return err
}

// Map is every key that begins with prefix, which ends with a dot and is cut off, and that no other key claims; of two
// maps the one with the longer prefix has it. *p is nil when there is none. Rules are for every value. A member whose
// name speaks of a password, a secret or the like is a secret.
func (k *Keys) Map(p *map[string]string, prefix, doc string) *Key {
	*p = nil
	key := k.add(prefix, "keys", "", doc, nil).As(prefix + "<name>")
	key.isMap, key.storeMap = true, func(m map[string]string) { *p = m }
	return key
}

// Batch is a whole number of at least 1 that is the batch size of the component as well: no channel of it may have a
// smaller transaction capacity, and a sink is given no more events at a time.
func (k *Keys) Batch(p *int, name string, def int, doc string) *Key {
	k.batch = &sized{name, p}
	return k.Int(p, name, def, doc).Must(Min(1)).Unit("events")
}

// Linger is, for a sink, how long the channel is waited for to fill a batch once it has an event.
func (k *Keys) Linger(p *time.Duration, name, doc string) *Key {
	k.linger = p
	return k.Millis(p, name, 0, doc).Must(Min(0))
}

// Shared says that a channel's events may come from other agents and go to them, so
// that an agent with such a channel needs no source, or no sink, of its own.
func (k *Keys) Shared() { k.shared = true }

// Transaction is a whole number of at least 1 that is a channel's transaction capacity as well.
func (k *Keys) Transaction(p *int, name string, def int, doc string) *Key {
	k.transaction = &sized{name, p}
	return k.Int(p, name, def, doc).Must(Min(1)).Unit("events")
}

// Inert is a key that is accepted and has no meaning here; with a dot at its end, all keys that begin with it. When one
// is set, doc, which says why, becomes a [Notice].
func (k *Keys) Inert(name, doc string) {
	key := k.add(name, "no effect", "", doc, nil)
	key.inert, key.isMap = true, strings.HasSuffix(name, ".")
	if key.isMap {
		key.As(name + "*")
	}
}

// Check adds a check across keys. It runs after binding, when no key of the component has an error: the fields then are
// as they will be.
func (k *Keys) Check(check func(*Report)) { k.checks = append(k.checks, check) }

// IsSet tells, after binding, whether the configuration has the key, under its name or an old one. A map is set when it
// has a member.
func (k *Keys) IsSet(name string) bool {
	_, ok := k.set[name]
	return ok
}

// BatchSize is, after binding, the value of the key declared with [Keys.Batch]; ok is false when there is none.
func (k *Keys) BatchSize() (n int, ok bool) { return k.batch.get() }

// LingerTime is what the key that [Keys.Linger] declares came to; 0 where there is none.
func (k *Keys) LingerTime() time.Duration {
	if k.linger == nil {
		return 0
	}
	return *k.linger
}

// TransactionCapacity is, after binding, the value of the key declared with [Keys.Transaction]; ok is false when there
// is none.
func (k *Keys) TransactionCapacity() (n int, ok bool) { return k.transaction.get() }

func (s *sized) get() (int, bool) {
	if s == nil {
		return 0, false
	}
	return *s.n, true
}

// Must adds a rule; all of them must be kept.
func (k *Key) Must(r Rule) *Key {
	k.rules = append(k.rules, r)
	k.doc.Rules = append(k.doc.Rules, r.words)
	return k
}

// Required makes it an error when the key is absent.
func (k *Key) Required() *Key {
	k.required, k.doc.Required, k.doc.Default = true, true, ""
	return k
}

// Secret keeps the value out of faults, documentation and status pages.
func (k *Key) Secret() *Key {
	k.doc.Secret = true
	return k
}

// Deprecated warns whoever sets the key; use says what to use instead.
func (k *Key) Deprecated(use string) *Key {
	k.doc.Deprecated = use
	return k
}

// Alias adds old names, which are read when the new one is absent, the first of them first, with a warning.
func (k *Key) Alias(names ...string) *Key {
	k.doc.Aliases = append(k.doc.Aliases, names...)
	return k
}

// Unread is Alias for names that people write and Flume does not read. What is
// under one of them never keeps a component from running: in place of a value
// that can not be used the default is, and where a batch size is larger than a
// transaction may be, as many are taken as fit.
func (k *Key) Unread(names ...string) *Key {
	k.unread = names
	return k.Alias(names...)
}

// Since names the version that brought the key, for documentation.
func (k *Key) Since(version string) *Key {
	k.doc.Since = version
	return k
}

// OrDefault makes a bad value a warning and takes the default, where Flume does.
func (k *Key) OrDefault() *Key {
	k.orDefault = true
	return k
}

// As is the name in documentation where it differs: headers.<group>.<name>.
func (k *Key) As(name string) *Key {
	k.doc.Name = name
	return k
}

// Unit is the unit of a number, for documentation.
func (k *Key) Unit(unit string) *Key {
	k.doc.Unit = unit
	return k
}
