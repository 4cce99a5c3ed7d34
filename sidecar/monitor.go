package sidecar

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// monitorOptions are what -Dflume.monitoring.* say.
type monitorOptions struct {
	form string // "", http or prometheus
	port int
}

// readMonitor takes them out of the system properties. What Flume would not start with is an error.
func readMonitor(sys map[string]string) (monitorOptions, error) {
	const typeKey, portKey = "flume.monitoring.type", "flume.monitoring.port"
	o := monitorOptions{form: strings.ToLower(sys[typeKey]), port: 41414}
	switch o.form {
	case "", "http", "prometheus":
	case "ganglia":
		return o, fmt.Errorf("-D%s=ganglia is not supported: let Ganglia, or what follows it, read type http or prometheus", typeKey)
	default:
		return o, fmt.Errorf("-D%s=%s: Java classes are not loaded; the types are http and prometheus", typeKey, sys[typeKey])
	}
	if text, given := sys[portKey]; given {
		port, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || port < 0 || port > math.MaxUint16 {
			return o, fmt.Errorf("-D%s=%s is not a port", portKey, text)
		}
		o.port = port
	}
	return o, nil
}

// start starts the monitoring server that was asked for. As in Flume a port
// that is taken is logged, and the agent runs on.
func (o monitorOptions) start(a *core.Agent, r *reloader, log *slog.Logger) *webServer {
	var h http.Handler
	switch o.form {
	case "http":
		h = flumeJSON{a.Cells}
	case "prometheus":
		h = onlyMetrics{prometheusHandler(a, r)}
	default:
		return nil
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", o.port))
	if err != nil {
		log.Error("monitoring server does not run", "type", o.form, "error", err)
		return nil
	}
	log.Info("monitoring server", "type", o.form, "address", l.Addr().String())
	return serve(l, h, log)
}

// onlyMetrics serves /metrics and nothing else, as Flume's prometheus type.
type onlyMetrics struct{ http.Handler }

func (m onlyMetrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	m.Handler.ServeHTTP(w, r)
}

// flumeJSON serves the counters as Flume's HTTP monitoring does, to the letter
// but for the order of names, which Flume leaves to chance and which is sorted here.
type flumeJSON struct{ cells func() []*metric.Group }

// ServeHTTP implements http.Handler.
func (f flumeJSON) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodTrace || r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/":
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		fmt.Fprint(w, `For Flume metrics please click <a href = "./metrics"> here</a>.`)
	case strings.EqualFold(r.URL.Path, "/metrics"):
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		_, _ = w.Write(appendGroups(nil, f.cells())) // the client is gone
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// appendGroups writes one object with a member for each group.
func appendGroups(b []byte, groups []*metric.Group) []byte {
	groups = slices.Clone(groups)
	slices.SortStableFunc(groups, func(x, y *metric.Group) int {
		return strings.Compare(string(x.Kind)+"."+x.Name, string(y.Kind)+"."+y.Name)
	})
	b = append(b, '{')
	for i, g := range groups {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, string(g.Kind)+"."+g.Name)
		b = append(b, ":{"...)
		for j, a := range attributes(g) {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendText(b, a.name)
			b = append(b, ':')
			b = appendText(b, a.value)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// attribute is a counter as Flume names it. All values are text.
type attribute struct{ name, value string }

func attributes(g *metric.Group) []attribute {
	var list []attribute
	number := func(name string, n int64) {
		list = append(list, attribute{name, strconv.FormatInt(n, 10)})
	}
	for _, c := range flumeCells(g) {
		number(c.flume, c.cell.Load())
	}
	if g.Kind == metric.Channel {
		var events, capacity int64
		if g.Fill != nil {
			events, capacity = g.Fill()
		}
		number("ChannelSize", events)
		number("ChannelCapacity", capacity)
		fill := math.MaxFloat64 // what Flume says of a channel without capacity
		if capacity > 0 {
			fill = float64(events) / float64(capacity) * 100
		}
		list = append(list, attribute{"ChannelFillPercentage", javaDouble(fill)})
	}
	for _, e := range g.Extras() {
		switch e.Flume {
		case "":
		case "Open": // the one attribute that is a truth value
			list = append(list, attribute{e.Flume, strconv.FormatBool(e.Value() != 0)})
		default:
			number(e.Flume, e.Value())
		}
	}
	number("StartTime", g.Start.Load())
	number("StopTime", g.Stop.Load())
	list = append(list, attribute{"Type", string(g.Kind)})
	slices.SortFunc(list, func(x, y attribute) int { return strings.Compare(x.name, y.name) })
	return list
}

// javaDouble is Java's Double.toString: shortest digits, at least one on either
// side of the point, an exponent below 1e-3 and from 1e7 up.
func javaDouble(f float64) string {
	if f == 0 {
		return "0.0"
	}
	if a := math.Abs(f); a >= 1e-3 && a < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	digits, exponent, _ := strings.Cut(s, "e")
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	n, _ := strconv.Atoi(exponent) // it is a number: FormatFloat wrote it
	return digits + "E" + strconv.Itoa(n)
}

// appendText writes a JSON string as Gson does by default, which escapes what HTML might take for its own.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20 || strings.ContainsRune(`<>&='`, r) || r == '\u2028' || r == '\u2029':
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
