package syslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// settings are the keys that the sources have in common.
type settings struct {
	host, path     string
	port           int
	batch          int
	recvBuffer     int64
	keepFields     string
	clientIP       string
	clientHostname string
	regex, search  *regexp.Regexp
	replace        string
	dateFormat     string

	format *format // made by check
}

func (s *settings) keys(k *conf.Keys, recvBuffer int64) {
	k.String(&s.host, "host", "", "Address or host name to listen on; absent: all addresses.")
	k.Int(&s.port, "port", 0, "Port to listen on. Required without path; 0 takes any free one.").Must(conf.Range(0, 65535))
	k.String(&s.path, "path", "", "Unix socket to listen on instead of host and port, such as /dev/log; everybody may write to it.").Since("1.0")
	s.eventKeys(k)
	k.Regexp(&s.regex, "format.regex", "", "A message format that is tried before the built-in ones; its groups are priority, version, time stamp, host and message.")
	k.Regexp(&s.search, "format.search", "", "What format.replace replaces in the time stamp that format.regex finds.")
	k.String(&s.replace, "format.replace", "", "Replacement for format.search, with $1 for a group.")
	k.String(&s.dateFormat, "format.dateFormat", "", "Java date pattern of that time stamp; absent: no timestamp header for messages of that format.")
	k.Int(&s.batch, "batchSize", 1000, "Events put in one transaction, at most. A batch never waits for more.").Must(conf.Min(1)).Unit("events").Since("1.0")
	s.bufferKey(k, recvBuffer)
	k.Check(s.check)
}

// eventKeys say what an event holds.
func (s *settings) eventKeys(k *conf.Keys) {
	k.String(&s.keepFields, "keepFields", "none", "What the body keeps of the header: none, all, or some of priority version timestamp hostname.")
	k.String(&s.clientIP, "clientIPHeader", "", "Header for the peer's IP address.")
	k.String(&s.clientHostname, "clientHostnameHeader", "", "Header for the peer's host name, or its address where it has none. Names are looked up once and kept for five minutes.")
}

func (s *settings) bufferKey(k *conf.Keys, recvBuffer int64) {
	k.Bytes(&s.recvBuffer, "receiveBufferBytes", recvBuffer, "Size of the kernel's receive buffer to ask for; 0: the system's default.").Must(conf.Range(0, 1<<30)).Since("1.0")
}

func (s *settings) check(r *conf.Report) {
	if s.path == "" && !r.IsSet("port") {
		r.Error("port", "is required, or path")
	}
	s.checkKeep(r)
	s.format = nil
	if s.regex == nil {
		for _, key := range []string{"format.search", "format.replace", "format.dateFormat"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect without format.regex")
			}
		}
		return
	}
	f := &format{regex: wholly(s.regex)}
	if s.search != nil && r.IsSet("format.replace") {
		replace, ok := goReplacement(s.replace, s.search.NumSubexp())
		if !ok {
			r.Error("format.replace", "%q is not a replacement for format.search: a $ or \\ is left over, or there is no such group", s.replace)
		}
		f.search, f.replace = s.search, []byte(replace)
	}
	if s.dateFormat != "" {
		date, err := parseDatePattern(s.dateFormat)
		if err != nil {
			r.Error("format.dateFormat", "%q %v", s.dateFormat, err)
		}
		f.date = &date
	}
	s.format = f
}

func (s *settings) checkKeep(r *conf.Report) {
	if _, known := parseKeep(s.keepFields); !known {
		r.Warn("keepFields", "%q names none of priority, version, timestamp, hostname: nothing is kept", s.keepFields)
	}
}

// rules returns what parsers need to know.
func (s *settings) rules(env core.Env) *rules {
	keep, _ := parseKeep(s.keepFields)
	return &rules{keep: keep, format: s.format, local: s.path != "", now: env.Now, loc: time.Local}
}

// batchSize is the key, less where a channel takes less.
func (s *settings) batchSize(env core.Env) int {
	if env.MaxEvents > 0 {
		return min(s.batch, env.MaxEvents)
	}
	return s.batch
}

// address is what to listen on.
func (s *settings) address() string {
	if s.path != "" {
		return s.path
	}
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// listen calls open. The file of a unix socket, which a process that was killed
// may have left behind, is removed when nobody answers there.
func listen[L io.Closer](network, addr string, open func(network, addr string) (L, error)) (L, error) {
	l, err := open(network, addr)
	if strings.HasPrefix(network, "unix") && !strings.HasPrefix(addr, "@") {
		if errors.Is(err, syscall.EADDRINUSE) && dead(network, addr) {
			if err = os.Remove(addr); err == nil {
				l, err = open(network, addr)
			}
		}
		if err == nil {
			if err = os.Chmod(addr, 0o666); err != nil {
				_ = l.Close()
			}
		}
	}
	if err != nil {
		return l, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// dead reports whether path is a socket that nobody has open.
func dead(network, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return false
	}
	var d net.Dialer
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, network, path)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
