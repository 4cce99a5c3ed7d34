package syslog

import "strings"

// fields are the parts of a message that its body keeps.
type fields struct {
	all                                bool
	priority, version, stamp, hostname bool
}

// parseKeep reads keepFields as Flume does: a text that holds the names.
func parseKeep(text string) (f fields, known bool) {
	switch text = strings.ToLower(strings.TrimSpace(text)); text {
	case "", "none", "false":
		return f, true
	case "all", "true":
		return fields{all: true}, true
	}
	f = fields{
		priority: strings.Contains(text, "priority"), version: strings.Contains(text, "version"),
		stamp: strings.Contains(text, "timestamp"), hostname: strings.Contains(text, "hostname"),
	}
	return f, f != fields{}
}

// appendTo writes the kept fields of m in the order of a message. Where there
// is no value stands "-" (Flume writes "null"); a version is left out.
func (f fields) appendTo(b []byte, m *message) []byte {
	if f.priority {
		b = append(append(append(b, '<'), m.pri...), '>')
	}
	if f.version && len(m.version) > 0 {
		b = append(append(b, m.version...), ' ')
	}
	if f.stamp {
		b = append(orDash(b, m.stamp), ' ')
	}
	if f.hostname {
		b = append(orDash(b, m.host), ' ')
	}
	return b
}

func orDash(b, value []byte) []byte {
	if len(value) == 0 {
		return append(b, '-')
	}
	return append(b, value...)
}
