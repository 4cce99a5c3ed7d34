package sidecar

import (
	"strconv"
	"strings"
)

// exposition writes samples, whose families are together, in Prometheus's text
// form, or in that of OpenMetrics, where whoever asks adds the end.
func exposition(all []sample, open bool) string {
	var b strings.Builder
	family := ""
	for _, s := range all {
		if s.name != family {
			family = s.name
			name, typ, help := s.name, s.typ(), helpEscapes.Replace(s.help)
			if open {
				help = labelEscapes.Replace(s.help)
				if base, ok := strings.CutSuffix(name, "_total"); ok && typ == counterType {
					name = base
				} else if typ == counterType {
					typ = "unknown" // a counter would have another name
				}
			}
			b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + typ + "\n")
		}
		shortest := shortest
		if open {
			shortest = pointed
		}
		line := func(suffix, bound string, v string) { s.line(&b, suffix, bound, v) }
		if s.distribution == nil {
			line("", "", shortest(s.value))
			continue
		}
		n, sum, buckets := s.distribution.Snapshot()
		for _, bound := range s.distribution.Bounds() {
			line("_bucket", shortest(bound), strconv.FormatUint(buckets[bound], 10))
		}
		line("_bucket", "+Inf", strconv.FormatUint(n, 10))
		line("_sum", "", shortest(sum))
		line("_count", "", strconv.FormatUint(n, 10))
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
	return counterType
}

const counterType = "counter"

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
)

func (s *sample) line(b *strings.Builder, suffix, bound, v string) {
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
	b.WriteString(" " + v + "\n")
}

func shortest(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// pointed is shortest with a point, as OpenMetrics has its numbers.
func pointed(v float64) string {
	text := shortest(v)
	if strings.ContainsAny(text, ".eIN") {
		return text
	}
	return text + ".0"
}
