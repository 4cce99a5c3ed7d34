package http

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "http", Doc: "Takes events in HTTP requests: JSON, blobs or lines.",
	Aliases: []string{"org.apache.flume.source.http.HTTPSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	bind, handler string
	port          int
	mandatory     []string
	maxBlob       int64
	tls           tlsconf.Config

	users  map[string]string
	tokens []string

	maxRequest, maxPending int64
	maxEvents, connections int
	workers, headerBytes   int
	idle, request          time.Duration

	env core.Env
	ln  net.Listener
}

// The handlers, as the key names them.
const (
	handlerJSON      = "json"
	handlerBlob      = "blob"
	handlerMorphline = "morphline-blob"
	handlerLines     = "lines"
)

// handlers maps the names of handlers, in lower case, and their classes.
var handlers = map[string]string{
	"json": handlerJSON, "blob": handlerBlob, "lines": handlerLines, "ndjson": handlerLines, "morphline-blob": handlerMorphline,
	"org.apache.flume.source.http.JSONHandler":         handlerJSON,
	"org.apache.flume.source.http.BLOBHandler":         handlerBlob,
	"org.apache.flume.sink.solr.morphline.BlobHandler": handlerMorphline,
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
	k.String(&s.bind, "bind", "0.0.0.0", "Host name or address to listen on.")
	s.handler = handlerJSON
	k.Func("handler", "string", handlerJSON,
		"What makes events of a request: json, blob (the body is one event), lines (each line is one), morphline-blob, or the class of one of Flume's.",
		func(text string) error {
			h, ok := handlers[text]
			if !ok {
				h, ok = handlers[strings.ToLower(text)]
			}
			if !ok {
				return errors.New("is not a handler: json, blob, lines, morphline-blob and Flume's own classes are; other Java classes can not be loaded")
			}
			s.handler = h
			return nil
		})
	s.mandatory = nil
	k.Commas(&s.mandatory, "handler.mandatoryParameters", "For blob: query parameters that a request must have; each becomes a header.")
	k.Bytes(&s.maxBlob, "handler.maxBlobLength", 100_000_000, "For morphline-blob: what is longer is cut.").Must(conf.Min(1))
	tlsconf.ServerKeys(k, &s.tls,
		tlsconf.Old{Key: "ssl", Was: "enableSSL"}, tlsconf.Old{Key: "exclude-protocols", Was: "excludeProtocols"},
		tlsconf.Old{Key: "keystore-password", Was: "keystorePassword"})

	k.Map(&s.users, "basicAuth.", "Password of the user <name>. If there is one, or a bearer token, requests without are refused.").As("basicAuth.<name>").Secret().Since("1.0")
	s.tokens = nil
	k.Words(&s.tokens, "bearerTokens", "Tokens of which a request must bear one (Authorization: Bearer).").Secret().Since("1.0")
	k.Bytes(&s.maxRequest, "maxRequestBytes", 32<<20, "Longest body, unzipped.").Must(conf.Min(1)).Since("1.0")
	k.Bytes(&s.maxPending, "maxPendingBytes", 64<<20, "Bytes of all bodies that are being read or stored; requests beyond are answered 503. One request alone is always let in.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.maxEvents, "maxRequestEvents", 100_000, "Most events in one request. It must also fit into each of its channels: transactionCapacity.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.connections, "maxConnections", 4096, "Connections open at once; further ones are answered 503 and closed. 0: no limit.").Must(conf.Min(0)).Since("1.0")
	k.Millis(&s.request, "requestTimeout", time.Minute, "How long a request may take to arrive; 0: for ever.").Must(conf.Min(0)).Since("1.0")
	s.jettyKeys(k)
	k.Check(func(r *conf.Report) {
		if !r.IsSet("maxRequestBytes") && s.handler == handlerMorphline {
			s.maxRequest = max(s.maxRequest, s.maxBlob)
		}
		if s.handler != handlerBlob && r.IsSet("handler.mandatoryParameters") {
			r.Warn("handler.mandatoryParameters", "has no effect with handler %s", s.handler)
		}
		if s.handler != handlerMorphline && r.IsSet("handler.maxBlobLength") {
			r.Warn("handler.maxBlobLength", "has no effect with handler %s", s.handler)
		}
		if len(s.users)+len(s.tokens) > 0 && !s.tls.Enabled() && !loopback(s.bind) {
			r.Warn(cmp.Or(map[bool]string{true: "bearerTokens"}[len(s.tokens) > 0], "basicAuth."), "without ssl = true passwords and tokens travel in clear text")
		}
	})
}

// jettyKeys binds what of Flume's server settings means something here.
func (s *source) jettyKeys(k *conf.Keys) {
	k.Millis(&s.idle, "ServerConnector.idleTimeout", 30*time.Second, "How long a connection may wait for its next request; 0: for ever.")
	k.Int(&s.workers, "QueuedThreadPool.maxThreads", 200, "Requests that are stored at the same time; further ones wait their turn.").Must(conf.Min(1))
	k.Int(&s.headerBytes, "HttpConfiguration.requestHeaderSize", 8192, "Longest request line with all header fields.").Must(conf.Min(1)).Unit("bytes")
	const why = "has no effect: there is no Jetty here; "
	k.Inert("ServerConnector.", why+"of this group idleTimeout works")
	k.Inert("QueuedThreadPool.", why+"of this group maxThreads works, as a limit")
	k.Inert("HttpConfiguration.", why+"of this group requestHeaderSize works")
	k.Inert("SslContextFactory.", why+"the keys ssl, keystore, include-protocols and so on say it all")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	secure, err := s.tls.Server(env)
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(s.bind, strconv.Itoa(s.port))
	ln, err := env.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	l := accept.New(ln, env)
	l.Max, l.Write = s.connections, answerTime
	s.env, s.ln = env, l
	if secure != nil {
		secure.NextProtos = []string{"http/1.1"}
		s.ln = tls.NewListener(l, secure)
	} else {
		l.Refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
	}
	return nil
}

// answerTime is how long a peer may take to read an answer.
const answerTime = 10 * time.Second

// Close implements core.Source.
func (s *source) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// Run implements core.Source.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	v := newService(s, out, hard)
	fresh := &waiting{conns: make(map[net.Conn]bool), empty: make(chan struct{}, 1)}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	srv := &http.Server{
		Handler: v, Protocols: &protocols, ConnState: fresh.state,
		ReadTimeout: s.request, IdleTimeout: s.idle, MaxHeaderBytes: s.headerBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.env.Log.Handler(), slog.LevelDebug),
	}
	if s.idle == 0 {
		srv.IdleTimeout = -1 // 0 would mean ReadTimeout
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.ln) }()
	var failed error
	drain, end := hard, cut
	select {
	case <-ctx.Done():
		drain, end = core.DrainContext(ctx)
		_ = s.ln.Close()   // Close says what goes wrong
		served <- <-served // the last connection is known now
		srv.SetKeepAlivesEnabled(false)
		fresh.rest(drain)
	case err := <-served:
		failed = fmt.Errorf("accept connections: %w", err)
		served <- err
		cut()
	}
	defer end()
	err := srv.Shutdown(drain)
	cut()
	v.works.settle() // what is being stored is answered before its connection ends
	if err != nil {
		err = srv.Close()
	}
	v.works.end()
	<-served
	if failed == nil && err != nil {
		failed = fmt.Errorf("close connections: %w", err)
	}
	return failed
}

// waiting knows the connections. At the end it lets those ask that have just
// been opened: the server itself would drop what they ask.
type waiting struct {
	mu    sync.Mutex
	conns map[net.Conn]bool // true: no request has begun on it
	empty chan struct{}
}

func (w *waiting) state(c net.Conn, st http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch st {
	case http.StateClosed, http.StateHijacked:
		delete(w.conns, c)
	default:
		w.conns[c] = st == http.StateNew
	}
	if len(w.conns) == 0 {
		select {
		case w.empty <- struct{}{}:
		default:
		}
	}
}

// firstRequest is how long a connection may be silent when the source ends.
const firstRequest = time.Second

// rest waits until there is no connection, or drain ends; no new ones come. Those
// that say nothing are closed after a moment.
func (w *waiting) rest(drain context.Context) {
	moment := time.NewTimer(firstRequest)
	defer moment.Stop()
	defer w.closeSilent()
	for w.some() {
		select {
		case <-w.empty:
		case <-moment.C:
			w.closeSilent()
		case <-drain.Done():
			return
		}
	}
}

func (w *waiting) some() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns) > 0
}

func (w *waiting) closeSilent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, silent := range w.conns {
		if silent {
			_ = c.Close() // nothing was said on it
		}
	}
}
