package kafka

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (o *oauth) says(t *testing.T) string {
	t.Helper()
	s, say, err := o.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done, _, err := s.Next(t.Context(), nil); !done || err != nil {
		t.Errorf("%v %v", done, err)
	}
	return string(say)
}

func TestBearerFromEndpoint(t *testing.T) {
	asked := 0
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		id, secret, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "logs" || id != "me" || secret != "a%2Fb" {
			t.Errorf("%v %q %q", r.Form, id, secret)
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"access_token":"t%d","expires_in":100,"error":"no","error_description":"way"}`, asked)
	}))
	defer server.Close()
	now := time.Now()
	c := &connection{mechanism: "OAUTHBEARER", tokens: server.URL, scope: "logs", jaas: logins["OAUTHBEARER"] + ` required clientId="me" clientSecret="a/b" extension_b="2" extension_a="1";`}
	m, err := c.login()
	if err != nil {
		t.Fatal(err)
	}
	o := m.(*oauth)
	o.now = func() time.Time { return now }
	const want = "n,,\x01auth=Bearer t1\x01a=1\x01b=2\x01\x01"
	if got := o.says(t); got != want {
		t.Errorf("%q", got)
	}
	now = now.Add(79 * time.Second)
	if got := o.says(t); got != want || asked != 1 {
		t.Errorf("%q, asked %d times", got, asked)
	}
	now = now.Add(2 * time.Second)
	if got := o.says(t); !strings.Contains(got, "Bearer t2") {
		t.Errorf("after its time: %q", got)
	}
	now, status = now.Add(time.Hour), http.StatusUnauthorized
	if _, _, err := o.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "status 401 no way") {
		t.Error(err)
	}
}

func TestBearerFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	c := &connection{mechanism: "OAUTHBEARER", tokens: "file://" + file, jaas: logins["OAUTHBEARER"] + " required ;"}
	m, err := c.login()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second"} { // renewed by somebody
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.(*oauth).says(t); !strings.Contains(got, "Bearer "+text+"\x01") {
			t.Errorf("%q", got)
		}
	}
	for _, text := range []string{"", "two words"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no token") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestBearerUnsigned(t *testing.T) {
	c := &connection{mechanism: "OAUTHBEARER", jaas: logins["OAUTHBEARER"] + ` required unsecuredLoginStringClaim_sub="alice";`}
	m, err := c.login()
	if err != nil {
		t.Fatal(err)
	}
	o := m.(*oauth)
	o.now = func() time.Time { return time.Unix(1000, 0) }
	_, token, _ := strings.Cut(strings.Trim(o.says(t), "\x01"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] != "" {
		t.Fatal(token)
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || string(claims) != `{"exp":4600,"iat":1000,"sub":"alice"}` {
		t.Errorf("%s %v", claims, err)
	}
	s, _, _ := o.Start(t.Context())
	if _, _, err := s.Next(t.Context(), []byte(`{"status":"invalid_token"}`)); err == nil || !strings.Contains(err.Error(), "invalid_token") {
		t.Error(err)
	}
}

func TestBearerRefuses(t *testing.T) {
	for _, c := range []struct{ tokens, jaas, want string }{
		{"http://x/", "required ;", "lacks clientId"},
		{"ftp://x/", "required ;", "neither http, https nor file:///"},
	} {
		_, err := (&connection{mechanism: "OAUTHBEARER", tokens: c.tokens, jaas: logins["OAUTHBEARER"] + " " + c.jaas}).login()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.tokens, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"t","expires_in":3600}`))
	f.Add(401, []byte(`{"error":"invalid_client"}`))
	f.Fuzz(func(t *testing.T, status int, text []byte) {
		token, lifetime, err := parseToken(status, text)
		if err == nil && (token == "" || lifetime < 0 || lifetime > 24*time.Hour) {
			t.Errorf("%q %v", token, lifetime)
		}
	})
}
