package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/connectors/internal/pause"
	"github.com/millrace/millrace/core/metric"
)

// newTransport returns what makes connections and keeps them: no more than
// there are lanes. It follows no redirect (Flume's client makes a GET of it, and
// the event is lost) and takes no proxy from the environment.
func newTransport(s *sink, secure *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: s.connect}
	cells := s.env.Metrics
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				cells.ConnectionFailed.Add(1)
				return nil, err
			}
			cells.ConnectionCreated.Add(1)
			return &counted{Conn: c, closed: &cells.ConnectionClosed}, nil
		},
		TLSClientConfig: secure, TLSHandshakeTimeout: s.connect, Protocols: &protocols,
		DisableCompression: true, MaxConnsPerHost: s.concurrency, MaxIdleConnsPerHost: s.concurrency, IdleConnTimeout: idleTime,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

const (
	idleTime        = 90 * time.Second
	maxAnswerHeader = 64 << 10
	maxDrained      = 64 << 10 // of an answer that does not matter, read so that its connection can be used again
)

// counted is a connection that counts its end.
type counted struct {
	net.Conn
	once   sync.Once
	closed *metric.Cell
}

func (c *counted) Close() error {
	c.once.Do(func() { c.closed.Add(1) })
	return c.Conn.Close()
}

// answer is what came back. Its text is in the lane.
type answer struct {
	status     int
	retryAfter string
	what       string // method and URL
	text       []byte
}

// failure is the answer as an error.
func (a answer) failure() error {
	text := a.what + ": answer " + strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	if said := excerpt(a.text); said != "" {
		text += ": " + said
	}
	return errors.New(text)
}

// excerpt is the beginning of a text, on one line.
func excerpt(text []byte) string {
	const most = 300
	cut := len(text) > most
	if cut {
		text = text[:most]
	}
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "\uFFFD"))
	clean = strings.Join(strings.Fields(clean), " ")
	if cut {
		clean += " …"
	}
	return clean
}

// payload is a body in the hands of the transport, which may go on reading it
// after an early answer or a timeout. From its Close on it does not touch the
// text, which is memory that is used again.
type payload struct {
	mu     sync.Mutex
	text   []byte
	closed bool
}

var errPayloadClosed = errors.New("request is over")

func (p *payload) Read(dst []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errPayloadClosed
	}
	n := copy(dst, p.text)
	p.text = p.text[n:]
	if len(p.text) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (p *payload) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.text = true, nil
	return nil
}

// payload returns a body that is closed at the end of post.
func (l *lane) payload(text []byte) *payload {
	p := &payload{text: text}
	l.payloads = append(l.payloads, p)
	return p
}

func (l *lane) closePayloads() {
	for i, p := range l.payloads {
		_ = p.Close()
		l.payloads[i] = nil
	}
	l.payloads = l.payloads[:0]
}

// post sends what is in buf and reads the answer. An error means that there was none.
func (l *lane) post(ctx context.Context) (answer, error) {
	s := l.s
	text, err := l.compress()
	if err != nil {
		return answer{}, err
	}
	inTime, end := context.WithTimeout(ctx, s.connect+s.timeout)
	defer end()
	defer l.closePayloads()
	r := (&http.Request{
		Method: s.method, URL: s.url, Host: s.host, Header: s.header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(text)), Body: l.payload(text),
		GetBody: func() (io.ReadCloser, error) { return l.payload(text), nil }, // for a connection that had ended already
	}).WithContext(inTime)
	s.requests.Add(1)
	resp, err := s.transport.RoundTrip(r)
	if err != nil {
		s.failed.Add(1)
		if inTime.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer within %v", s.connect+s.timeout)
		}
		return answer{}, fmt.Errorf("%s: %w", s.what, err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), what: s.what}
	if a.status/100 != 2 {
		s.failed.Add(1)
	}
	limit := int64(maxDrained)
	matters := s.format == formatBulk && a.status/100 == 2
	if matters {
		limit = s.maxAnswer + 1
	}
	l.answer.Reset()
	_, err = l.answer.ReadFrom(io.LimitReader(resp.Body, limit))
	if err != nil && matters { // else the status has said it all
		return answer{}, fmt.Errorf("%s: read answer: %w", s.what, err)
	}
	a.text = l.answer.Bytes()
	return a, nil
}

// compress returns what to send of buf.
func (l *lane) compress() ([]byte, error) {
	if l.s.compression != gzipped {
		return l.buf, nil
	}
	l.zipped.Reset()
	if l.zip == nil {
		l.zip = gzip.NewWriter(&l.zipped)
	} else {
		l.zip.Reset(&l.zipped)
	}
	if _, err := l.zip.Write(l.buf); err != nil {
		return nil, fmt.Errorf("compress request: %w", err)
	}
	if err := l.zip.Close(); err != nil {
		return nil, fmt.Errorf("compress request: %w", err)
	}
	return l.zipped.Bytes(), nil
}

// heed notes how long the far end wants to be left alone: seconds, or a date.
func (s *sink) heed(retryAfter string) {
	if retryAfter == "" || s.maxWait == 0 {
		return
	}
	now := s.env.Now()
	var wait time.Duration
	if seconds, err := strconv.ParseUint(retryAfter, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(retryAfter); err == nil {
		wait = date.Sub(now)
	}
	if wait = min(wait, s.maxWait); wait <= 0 {
		return
	}
	s.notBefore.Store(now.Add(wait).UnixNano())
	s.waits.Say(s.env.Log, now, slog.LevelWarn, "the far end asks for a pause", slog.Duration("pause", wait))
}

// heeded waits until the far end may be asked again.
func (s *sink) heeded(ctx context.Context) error {
	if wait := time.Duration(s.notBefore.Load() - s.env.Now().UnixNano()); wait > 0 && s.notBefore.Load() > 0 {
		pause.For(ctx, wait)
	}
	return ctx.Err()
}
