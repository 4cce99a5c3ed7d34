package sidecar

import (
	"strconv"
	"strings"
)

// exposition writes samples, whose families are together, in Prometheus's text form.
func exposition(all []sample) string {
	var b strings.Builder
	family := ""
	for _, s := range all {
		if s.name != family {
			family = s.name
			b.WriteString("# HELP " + s.name + " " + helpEscapes.Replace(s.help) + "\n# TYPE " + s.name + " " + s.typ() + "\n")
		}
		if s.distribution == nil {
			s.line(&b, "", "", s.value)
			continue
		}
		n, sum, buckets := s.distribution.Snapshot()
		for _, bound := range s.distribution.Bounds() {
			s.line(&b, "_bucket", shortest(bound), float64(buckets[bound]))
		}
		s.line(&b, "_bucket", "+Inf", float64(n))
		s.line(&b, "_sum", "", sum)
		s.line(&b, "_count", "", float64(n))
	}
	return b.String()
}

func (s *sample) typ() string {
	switch {
	case s.distribution != nil:
		return "histogram"
	case s.gauge:
		return "gauge"
	}
	return "counter"
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
)

func (s *sample) line(b *strings.Builder, suffix, bound string, v float64) {
	b.WriteString(s.name + suffix)
	before := "{"
	n := len(s.labels) / 2
	for i, name := range s.labels[:n] {
		b.WriteString(before + name + `="` + labelEscapes.Replace(s.labels[n+i]) + `"`)
		before = ","
	}
	if bound != "" {
		b.WriteString(before + `le="` + bound + `"`)
		before = ","
	}
	if before == "," {
		b.WriteByte('}')
	}
	b.WriteString(" " + shortest(v) + "\n")
}

func shortest(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
