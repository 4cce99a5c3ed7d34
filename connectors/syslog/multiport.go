package syslog

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Multiport is the catalogue entry of multiport_syslogtcp.
var Multiport = core.Type[core.Source]{
	Name: "multiport_syslogtcp", Doc: "Takes syslog messages (RFC 3164, RFC 5424) over TCP or TLS on several ports, each with its own charset.",
	Aliases: []string{"org.apache.flume.source.MultiportSyslogTCPSource"},
	New:     func() core.Source { return new(multiport) },
}

type multiport struct {
	tcp
	numbers    []int
	portHeader string
	charset    *charset.Charset
	charsets   map[string]string

	byPort map[int]*charset.Charset // made by check
}

// port is where connections come from.
type port struct {
	addr     string
	listener net.Listener

	// Of multiport_syslogtcp only.
	charset *charset.Charset // nil: it is another source's port
	odd     *[256]bool       // bytes that are no characters; nil: none, or it is UTF-8
	header  string           // for the port's number; empty: none
	cells   *metric.Group
}

// Keys implements core.Component.
func (s *multiport) Keys(k *conf.Keys) {
	s.numbers = nil
	k.Func("ports", "words", "", "Ports to listen on, separated by blanks; 0 takes any free one.", s.readPorts).Required()
	k.String(&s.host, "host", "", "Address or host name to listen on; absent: all addresses.")
	k.String(&s.portHeader, "portHeader", "", "Header for the number of the port that a message came to.")
	charset.Key(k, &s.charset, "charset.default", "Encoding of the messages. Bodies keep it; messages that are no text in it are Invalid.")
	k.Map(&s.charsets, "charset.port.", "Encoding of the messages that come to that port.").As("charset.port.<port>")
	s.eventKeys(k)
	k.Batch(&s.batch, "batchSize", 100, "Events put in one transaction, at most. A batch never waits for more.")
	s.bufferKey(k, 0)
	s.connKeys(k)
	k.Inert("numProcessors", "has no effect: each connection is served on its own")
	k.Inert("readBufferBytes", "has no effect: buffers grow and shrink by themselves")
	k.Inert("readBufferSize", "has no effect: buffers grow and shrink by themselves")
	k.Check(s.check)
}

func (s *multiport) readPorts(text string) error {
	var list []int
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > 65535 {
			return errors.New("is not a list of ports, which are numbers up to 65535, separated by blanks")
		}
		list = append(list, n)
	}
	s.numbers = list
	return nil
}

func (s *multiport) check(r *conf.Report) {
	s.checkKeep(r)
	for i, n := range s.numbers {
		if n > 0 && slices.Contains(s.numbers[:i], n) {
			r.Warn("ports", "names %d more than once", n)
		}
	}
	checkCharset(r, "charset.default", s.charset)
	s.byPort = make(map[int]*charset.Charset)
	for text, name := range s.charsets {
		key := "charset.port." + text
		n, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(s.numbers, n) {
			r.Warn(key, "has no effect: %s is not one of the ports", text)
			continue
		}
		found, err := charset.Lookup(name)
		if err != nil {
			r.Error(key, "%q %v", name, err)
			continue
		}
		checkCharset(r, key, found)
		s.byPort[n] = found
	}
}

// checkCharset refuses encodings in which a newline is not one byte: messages
// end at that byte.
func checkCharset(r *conf.Report, key string, c *charset.Charset) {
	if string(c.Unmarked().Encode(nil, []byte("\n"))) != "\n" {
		r.Error(key, "%s can not be used: messages end at a newline of one byte", c)
	}
}

// Open implements core.Component.
func (s *multiport) Open(_ context.Context, env core.Env) error {
	var ports []*port
	for i, n := range s.numbers {
		if n > 0 && slices.Contains(s.numbers[:i], n) {
			continue
		}
		p := &port{
			addr: net.JoinHostPort(s.host, strconv.Itoa(n)), charset: s.charset, header: s.portHeader, cells: env.Metrics,
		}
		if c := s.byPort[n]; c != nil {
			p.charset = c
		}
		p.odd = oddBytes(p.charset)
		ports = append(ports, p)
	}
	return s.listen(env, "tcp", ports...)
}

// oddBytes returns which bytes are no characters of an encoding with one byte a
// character.
func oddBytes(c *charset.Charset) *[256]bool {
	if c.IsUTF8() {
		return nil
	}
	var odd [256]bool
	some := false
	for i := range odd {
		odd[i] = string(c.Decode(nil, []byte{byte(i)})) == "\ufffd"
		some = some || odd[i]
	}
	if !some {
		return nil
	}
	return &odd
}
