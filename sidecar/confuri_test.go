package sidecar

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core/suite"
)

// configServer serves one text to whoever has the password.
type configServer struct {
	mu       sync.Mutex
	text     string
	status   int // instead of the text
	asked    int
	answered int // with the text
}

func (s *configServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	user, password, _ := r.BasicAuth()
	tag := fmt.Sprintf(`"%d"`, len(s.text))
	switch {
	case user != "flume" || password != "open-sesame":
		w.WriteHeader(http.StatusUnauthorized)
	case s.status != 0:
		w.WriteHeader(s.status)
	case r.Header.Get("If-None-Match") == tag:
		w.WriteHeader(http.StatusNotModified)
	default:
		s.answered++
		w.Header().Set("ETag", tag)
		fmt.Fprint(w, s.text)
	}
}

func (s *configServer) set(text string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.status = text, status
}

func (s *configServer) count() (asked, answered int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.answered
}

const served = `a1.sources = r1
a1.channels = c1
a1.sinks = k1
a1.sources.r1.type = seq
a1.sources.r1.channels = c1
a1.sources.r1.totalEvents = 10
a1.channels.c1.type = memory
a1.sinks.k1.type = null
a1.sinks.k1.channel = c1
`

// A configuration over HTTP is polled with what the server said of it, and what
// a failing server says changes nothing. Its password is not to be seen.
func TestConfigurationOverHTTP(t *testing.T) {
	s := &configServer{text: served}
	web := httptest.NewServer(s)
	defer web.Close()
	login := strings.Replace(web.URL, "http://", "http://flume:open-sesame@", 1)

	if code, out, _ := call(t, nil, "validate", "-u", web.URL+"/a.properties"); code != exitConfig || !strings.Contains(out, "401") {
		t.Errorf("without a password: %d %s", code, out)
	}
	if code, out, _ := call(t, nil, "validate", "-u", web.URL+"/a.json", "--conf-user", "flume", "--conf-password", "open-sesame"); code != exitConfig || !strings.Contains(out, "in json is not read") {
		t.Errorf("JSON: %d %s", code, out)
	}
	_, earlier := s.count()
	r := start(t, "-u", login+"/a.properties", "-i", "1").ready()
	suite.Eventually(t, "it is asked again", func() bool { asked, _ := s.count(); return asked >= earlier+4 })
	if _, answered := s.count(); answered != earlier+1 {
		t.Errorf("the text was sent %d times", answered-earlier)
	}
	s.set(served, http.StatusInternalServerError)
	before, _ := s.count()
	suite.Eventually(t, "it is asked again", func() bool { asked, _ := s.count(); return asked >= before+2 })
	s.set(served+"a1.channels.c1.capacity = 4321\n", 0)
	suite.Eventually(t, "the change is taken", func() bool { return strings.Contains(r.get("/status"), "4321") })
	if code := r.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if said := r.err.String() + r.out.String(); strings.Contains(said, "sesame") {
		t.Errorf("the password is in\n%s", said)
	}
}

func TestConfigurationURIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.conf"), []byte(served), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-u", "file://" + filepath.Join(dir, "a.conf")},
		{"-u", filepath.Join(dir, "a.conf"), "-f", "/no/such/file"},
		{"-c", dir, "-u", "classpath:///a.conf"},
		{"-c", dir, "-u", "classpath:a.conf"},
	} {
		args = append([]string{"agent", "--validate-only"}, args...)
		if code, _, said := call(t, nil, args...); code != exitOK {
			t.Errorf("%v: %d %s", args, code, said)
		}
	}
}
