package sidecar

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

func TestAdminAdmits(t *testing.T) {
	const here, there, there6 = "127.0.0.1:5000", "10.0.0.7:5000", "[fd00::1]:5000"
	for _, c := range []struct {
		name               string
		remote, host, path string
		token, given       string
		code               int
	}{
		{"alive from anywhere", there, "pod:9700", "/healthz", "", "", 200},
		{"not ready before it runs", there, "pod:9700", "/readyz", "", "", 503},
		{"metrics from anywhere", there, "pod:9700", "/metrics", "", "", 200},
		{"status on loopback", here, "127.0.0.1:9700", "/status", "", "", 200},
		{"status on loopback by name", here, "localhost:9700", "/status", "s", "", 200},
		{"status on loopback, six", "[::1]:5000", "[::1]:9700", "/status", "", "", 200},
		{"mapped loopback", "[::ffff:127.0.0.1]:5000", "localhost", "/status", "", "", 200},
		{"a foreign name that resolves to loopback", here, "evil.example:9700", "/status", "", "", 403},
		{"status from afar, no token set", there, "pod:9700", "/status", "", "", 403},
		{"status from afar, no token set, one given", there, "pod:9700", "/status", "", "Bearer s", 403},
		{"an empty token opens nothing", there, "pod:9700", "/status", "", "Bearer ", 403},
		{"status from afar, none given", there6, "pod:9700", "/status", "s", "", 401},
		{"status from afar, wrong", there, "pod:9700", "/status", "s", "Bearer t", 401},
		{"status from afar, wrong kind", there, "pod:9700", "/status", "s", "Basic s", 401},
		{"status from afar, right", there, "pod:9700", "/status", "s", "Bearer s", 200},
		{"afar that calls itself localhost", there, "localhost:9700", "/status", "", "", 403},
		{"list", here, "127.0.0.1", "/", "", "", 200},
		{"list from afar", there, "pod:9700", "/", "", "", 403},
		{"nothing", here, "127.0.0.1", "/etc/passwd", "", "", 404},
		{"nothing, from afar", there, "pod:9700", "/etc/passwd", "", "", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent := core.NewAgent(&conf.Agent{Name: "a1"}, core.World{})
			s := &adminServer{agent: agent, reloads: new(reloader), token: c.token, metrics: prometheusHandler(agent, new(reloader)), drain: newDrainState("a1")}
			r := httptest.NewRequest(http.MethodGet, "http://"+c.host+c.path, nil)
			r.RemoteAddr = c.remote
			if c.given != "" {
				r.Header.Set("Authorization", c.given)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != c.code {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.code)
			}
			if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("%d with WWW-Authenticate %q", w.Code, w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

func TestAdminTakesOnlyGet(t *testing.T) {
	s := &adminServer{agent: core.NewAgent(&conf.Agent{Name: "a1"}, core.World{})}
	for _, method := range []string{"POST", "PUT", "DELETE", "TRACE", "OPTIONS"} {
		if got := get(t, s, method, "/healthz"); got.code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, got.code)
		}
	}
}
