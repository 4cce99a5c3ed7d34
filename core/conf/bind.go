package conf

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Notice is a key that is accepted and does nothing here. It is no fault: it is said once, when the agent starts.
type Notice struct {
	Pos  Pos
	Key  string
	Text string
}

// Report takes the faults of a [Keys.Check].
type Report struct{ k *Keys }

// Error reports a fault of a key, at its line, or of the component when key is "" or not set.
func (r *Report) Error(key, format string, args ...any) {
	r.k.fault(Error, key, fmt.Sprintf(format, args...), "")
}

// Warn is Error for what the agent can start with.
func (r *Report) Warn(key, format string, args ...any) {
	r.k.fault(Warning, key, fmt.Sprintf(format, args...), "")
}

// IsSet is [Keys.IsSet].
func (r *Report) IsSet(key string) bool { return r.k.IsSet(key) }

// Members are the channels of the source for a selector, the sinks of the group for a sink processor; else nil.
func (r *Report) Members() []string { return r.k.members }

// Bind binds a component to the keys of a map, for tests, with values as in a file: blanks around them do not count, and
// an empty one is none. The faults are those of the keys.
func Bind(b Binder, props map[string]string) (*Keys, Faults) { return BindMembers(b, nil, props) }

// BindMembers is Bind for a selector or a sink processor with those [Report.Members].
func BindMembers(b Binder, members []string, props map[string]string) (*Keys, Faults) {
	k := &Keys{members: members}
	b.Keys(k)
	list := make([]Property, 0, len(props))
	for _, name := range slices.Sorted(maps.Keys(props)) {
		value := javaTrim(props[name])
		if value == "" {
			k.fault(Warning, name, "has no value and is ignored", "")
			continue
		}
		list = append(list, Property{Key: name, Value: value})
	}
	k.bind(list)
	return k, k.faults
}

// bind sets the fields of the component from its properties, whose keys are the component's own names.
func (k *Keys) bind(props []Property) {
	k.set, k.secrets = map[string]Property{}, map[string]bool{}
	left := make(map[string]Property, len(props))
	for _, p := range props {
		left[p.Key] = p
		if p.filtered {
			k.secrets[p.Key] = true
		}
	}
	for _, key := range k.list {
		if !key.isMap {
			k.one(key, left)
		}
	}
	k.maps(left)
	k.unknown(left)
	if !k.lost && !k.faults.HasErrors() {
		for _, check := range k.checks {
			check(&Report{k})
		}
	}
	k.veil()
}

// one reads a key from what is left, and takes it away.
func (k *Keys) one(key *Key, left map[string]Property) {
	written := ""
	for i, name := range append([]string{key.name}, key.doc.Aliases...) {
		p, has := left[name]
		if !has {
			continue
		}
		delete(left, name)
		k.set[name] = p
		if key.doc.Secret {
			k.secrets[name] = true
		}
		switch {
		case written != "":
			k.fault(Warning, name, "is ignored: it is an old name of "+key.name+", and "+written+" is set", "remove it")
		case i > 0:
			text := "is an old name"
			if slices.Contains(key.unread, name) {
				text = "is a name that Flume does not read; it counts here"
			}
			k.fault(Warning, name, text, "write "+key.name)
			fallthrough
		default:
			written = name
		}
	}
	switch {
	case written != "":
		k.set[key.name] = k.set[written]
		k.told(key, written)
		switch {
		case k.broken[k.prefix+written]:
			k.lost = true
		case !key.inert:
			k.read(key, written, k.set[written].Value)
		}
	case key.required:
		k.fault(Error, key.name, "is required", "")
	}
}

// told says what there is to say of a key merely because it is set.
func (k *Keys) told(key *Key, name string) {
	if key.doc.Deprecated != "" {
		k.fault(Warning, name, "is deprecated", "use "+key.doc.Deprecated)
	}
	if key.inert {
		k.notices = append(k.notices, Notice{k.set[name].Pos, k.prefix + name, key.doc.Doc})
	}
}

// read stores a value, or reports why not.
func (k *Keys) read(key *Key, name, text string) {
	v, err := key.read(text)
	hint := ""
	if err != nil {
		hint = valueHint(text)
	} else {
		for _, rule := range key.rules {
			ok, h := rule.test(&v)
			if !ok {
				err, hint = fmt.Errorf("%q must be %s", text, rule.words), cmp.Or(h, valueHint(text))
				break
			}
		}
	}
	if err != nil {
		k.bad(key, name, err, hint)
		return
	}
	if v.doubt != "" {
		k.fault(Warning, name, v.doubt, cmp.Or(valueHint(text), v.hint))
	}
	v.store(v.words)
}

// bad reports a value that can not be used.
func (k *Keys) bad(key *Key, name string, err error, hint string) {
	severity, text := Error, err.Error()
	if k.secrets[name] {
		text, hint = "the value, which is secret, is not valid", ""
		if len(key.doc.Rules) > 0 {
			text = "the value, which is secret, must be " + strings.Join(key.doc.Rules, " and ")
		}
	}
	if key.orDefault || slices.Contains(key.unread, name) { // to Flume the second is not there
		severity = Warning
		text += ": the default is used"
		if key.doc.Default != "" && !k.secrets[name] {
			text = strings.TrimSuffix(text, " is used") + " " + key.doc.Default + " is used"
		}
	}
	k.fault(severity, name, text, hint)
}

// maps gives what is left to the maps, longest prefix first.
func (k *Keys) maps(left map[string]Property) {
	var all []*Key
	for _, key := range k.list {
		if key.isMap {
			all = append(all, key)
		}
	}
	slices.SortStableFunc(all, func(a, b *Key) int { return len(b.name) - len(a.name) })
	for _, key := range all {
		members := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(left)) {
			member, ok := strings.CutPrefix(name, key.name)
			if !ok || member == "" {
				continue
			}
			p := left[name]
			delete(left, name)
			k.set[name], k.set[key.name] = p, p
			if key.doc.Secret || soundsSecret(member) {
				k.secrets[name] = true
			}
			k.told(key, name)
			k.lost = k.lost || k.broken[k.prefix+name]
			if k.keepsRules(key, name, &p) {
				members[member] = p.Value
			}
		}
		switch {
		case len(members) > 0 && !key.inert:
			key.storeMap(members)
		case key.required && !k.IsSet(key.name):
			k.fault(Error, key.doc.Name, "at least one is required", "")
		}
	}
}

// keepsRules checks a member of a map, and respells it.
func (k *Keys) keepsRules(key *Key, name string, p *Property) bool {
	v := value{words: []string{p.Value}}
	for _, rule := range key.rules {
		if ok, hint := rule.test(&v); !ok {
			text := fmt.Sprintf("%q must be %s", p.Value, rule.words)
			if k.secrets[name] {
				text, hint = "the value, which is secret, must be "+rule.words, ""
			}
			k.fault(Error, name, text, hint)
			return false
		}
	}
	p.Value = v.words[0]
	return true
}

// unknown warns of what no key claims.
func (k *Keys) unknown(left map[string]Property) {
	var names []string
	for _, key := range k.list {
		names = append(names, key.name)
	}
	names = append(names, k.below...)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		near := nearest(name, k.candidates(name, names))
		if soundsSecret(name) || k.isSecret(near) {
			k.secrets[name] = true
		}
		k.set[name] = left[name]
		k.fault(Warning, name, "unknown key", didYouMean(near))
		delete(k.set, name)
	}
}

// isSecret tells whether a key is declared secret: the value of one that was meant to be it is as secret.
func (k *Keys) isSecret(name string) bool {
	return slices.ContainsFunc(k.list, func(key *Key) bool { return key.name == name && key.doc.Secret })
}

// candidates are names with every prefix of a map replaced by what name would be below it, when it begins nearly so.
func (k *Keys) candidates(name string, names []string) []string {
	var list []string
	for _, c := range names {
		if !strings.HasSuffix(c, ".") {
			list = append(list, c)
			continue
		}
		// The rest of name, after as many dots as the prefix has, may be anything.
		rest := name
		for range strings.Count(c, ".") {
			_, rest, _ = strings.Cut(rest, ".")
		}
		head := strings.TrimSuffix(name, rest)
		if rest == "" {
			head, rest = name+".", "<name>"
		}
		if _, near := edits(strings.ToLower(head), strings.ToLower(c)); near {
			list = append(list, c+rest)
		}
	}
	return list
}

// soundsSecret tells names whose values are better not shown, of keys that nobody declared.
func soundsSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "passphrase", "passwd", "secret", "token", "credential", "jaas"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// fault reports a fault of a key by its own name; "" is the component.
func (k *Keys) fault(s Severity, name, text, hint string) {
	pos := k.pos
	if p, ok := k.set[name]; ok {
		pos = p.Pos
	}
	k.faults = append(k.faults, Fault{pos, s, strings.TrimSuffix(k.prefix+name, "."), text, hint})
}

// veil takes secret values out of all texts; checks may have put them there.
func (k *Keys) veil() {
	for name := range k.secrets {
		secret := k.set[name].Value
		if len(secret) < 4 {
			continue // no secret, and part of many a word
		}
		for i := range k.faults {
			k.faults[i].Text = strings.ReplaceAll(k.faults[i].Text, secret, veiled)
			k.faults[i].Hint = strings.ReplaceAll(k.faults[i].Hint, secret, veiled)
		}
	}
}

// veiled stands for a secret value.
const veiled = "******"
