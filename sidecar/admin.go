package sidecar

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
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
//	/status   what every component does, as JSON
//
// From beyond loopback all but the first three take a bearer token; without one
// configured they are refused.
type adminServer struct {
	agent   *core.Agent
	token   string
	files   []string
	reloads *reloader
	metrics http.Handler
	server  *webServer
}

// startAdmin starts the admin server, or returns one that is off. That the
// default address is taken, by another agent on the machine, is no error.
func startAdmin(o *agentOptions, a *core.Agent, r *reloader, log *slog.Logger) (*adminServer, error) {
	s := &adminServer{agent: a, token: o.adminToken, files: o.files, reloads: r, metrics: prometheusHandler(a, r)}
	if o.adminAddr == "" || o.adminAddr == "off" {
		return s, nil
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
	s.server = serve(l, s, log)
	return s, nil
}

func (s *adminServer) address() string {
	if s.server == nil {
		return "off"
	}
	return s.server.listener.Addr().String()
}

func (s *adminServer) stop() { s.server.stop() }

// ServeHTTP implements http.Handler.
func (s *adminServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
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
	if code := s.admit(r); code != 0 {
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="millrace"`)
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	switch r.URL.Path {
	case "/status":
		s.status(w)
	case "/":
		fmt.Fprint(w, "Millrace "+versionOf().short()+"\n\n/healthz\n/readyz\n/metrics\n/status\n")
	default:
		http.NotFound(w, r)
	}
}

// admit returns 0 for a caller who may see everything, else the code to refuse with.
func (s *adminServer) admit(r *http.Request) int {
	// The name in the request is looked at as well: a web page in a browser on
	// this machine must not read us under a name of its own.
	if fromLoopback(r.RemoteAddr) && namesLoopback(r.Host) {
		return 0
	}
	if s.token == "" {
		return http.StatusForbidden
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
		return http.StatusUnauthorized
	}
	return 0
}

func fromLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}

// fullStatus is the answer of /status.
type fullStatus struct {
	core.Status
	Build  build        `json:"build"`
	Config []string     `json:"config"`
	Reload reloadStatus `json:"reload"`
}

func (s *adminServer) status(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(fullStatus{s.agent.Status(), versionOf(), s.files, s.reloads.now()}) // the client is gone
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
