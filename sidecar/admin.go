package sidecar

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

// defaultAdmin is where the admin server listens if nobody says otherwise.
const defaultAdmin = "127.0.0.1:9700"

// adminServer shows one agent to its operators:
//
//	/healthz  200 while the process lives
//	/readyz   200 when every component runs, else 503 and why not
//	/metrics  Prometheus
//	/         the page, made of the next ones
//	/status   what every component does, as JSON
//	/events   the same every second, as server-sent events
//	/config   the configuration at work, without what is secret, as JSON
//	/tap      a sample of the events that pass, as lines of JSON; off by default
//	/drainz   how far the drain is, as JSON; POST begins one
//
// From beyond loopback all but the first three take a bearer token or a client
// certificate; without either configured they are refused (docs/decisions/010).
type adminServer struct {
	agent   *core.Agent
	token   string
	files   []string
	reloads *reloader
	metrics http.Handler
	drain   *drainState
	tap     tapOptions
	server  *webServer

	over    chan struct{} // closed when the server stops: streams end
	streams atomic.Int32  // /events and /tap under way
}

// startAdmin starts the admin server, or returns one that is off. That the
// default address is taken, by another agent on the machine, is no error.
func startAdmin(o *agentOptions, a *core.Agent, r *reloader, d *drainState, log *slog.Logger) (*adminServer, error) {
	s := &adminServer{
		agent: a, token: o.adminToken, files: o.files, reloads: r, metrics: prometheusHandler(a, r),
		drain: d, tap: o.tap, over: make(chan struct{}),
	}
	if o.adminAddr == "" || o.adminAddr == "off" {
		return s, nil
	}
	secure, err := o.adminTLS.server()
	if err != nil {
		return nil, fmt.Errorf("admin server: %w", err)
	}
	l, err := net.Listen("tcp", o.adminAddr)
	if err != nil {
		err = fmt.Errorf("admin server: %w", err)
		if o.adminGiven {
			return nil, err
		}
		log.Warn("there is no admin server; name a free address with --admin", "error", err)
		return s, nil
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && s.token == "" && o.adminTLS.clientCA == "" {
		log.Info("from beyond loopback the admin server shows health and metrics only: set --admin-token or --admin-client-ca for the rest", "admin", l.Addr().String())
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	s.server = serve(l, s, log)
	return s, nil
}

func (s *adminServer) address() string {
	if s.server == nil {
		return "off"
	}
	return s.server.listener.Addr().String()
}

func (s *adminServer) stop() {
	close(s.over)
	s.server.stop()
}

// ServeHTTP implements http.Handler.
func (s *adminServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	post := r.Method == http.MethodPost && r.URL.Path == "/drainz" // all else changes nothing
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !post {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/healthz":
		fmt.Fprintln(w, "ok")
		return
	case "/readyz":
		if err := s.agent.Ready(); err != nil {
			// The reasons may tell addresses and files: they are on /status.
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		return
	case "/metrics":
		s.metrics.ServeHTTP(w, r)
		return
	}
	code := s.admit(r)
	if file, ok := pageFiles[r.URL.Path]; ok && (code == 0 || code == http.StatusUnauthorized) {
		file.serve(w) // it holds nothing of this agent, and asks for the token
		return
	}
	switch code {
	case 0:
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="millrace"`)
		http.Error(w, "a bearer token, or a client certificate, is needed", code)
		return
	default:
		http.Error(w, "from beyond loopback this takes --admin-token or --admin-client-ca; on loopback, the name localhost or its address", code)
		return
	}
	switch r.URL.Path {
	case "/status":
		s.status(w)
	case "/events":
		s.events(w, r)
	case "/config":
		writeJSON(w, s.reloads.config())
	case "/tap":
		s.serveTap(w, r)
	case "/drainz":
		s.drainz(w, r)
	default:
		http.NotFound(w, r)
	}
}

// fullStatus is the answer of /status.
type fullStatus struct {
	core.Status
	Time   time.Time    `json:"time"`
	Build  build        `json:"build"`
	Config []string     `json:"config"`
	Reload reloadStatus `json:"reload"`
	Tap    string       `json:"tap"` // off, headers or full
	Drain  drainReport  `json:"drain"`
}

func (s *adminServer) status(w http.ResponseWriter) {
	writeJSON(w, s.full())
}

func (s *adminServer) full() fullStatus {
	st := s.agent.Status()
	return fullStatus{st, time.Now(), versionOf(), s.files, s.reloads.now(), s.tap.mode, s.drained(&st)}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone
}

// webServer is an HTTP server with its goroutine. A nil one is off.
type webServer struct {
	listener net.Listener
	server   *http.Server
	ended    chan struct{}
}

// serve serves h on l until stop. Its time limits are for small answers to
// clients that may mean ill.
func serve(l net.Listener, h http.Handler, log *slog.Logger) *webServer {
	s := &webServer{l, &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}, make(chan struct{})}
	go func() {
		defer close(s.ended)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("web server failed", "address", l.Addr().String(), "error", err)
		}
	}()
	return s
}

func (s *webServer) stop() {
	if s == nil {
		return
	}
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.server.Shutdown(grace) != nil {
		_ = s.server.Close() // what is still open after the grace is cut
	}
	<-s.ended
}
