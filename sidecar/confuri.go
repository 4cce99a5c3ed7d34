package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/core/conf"
)

const (
	fetchTimeout = 60 * time.Second  // of one request, as in Flume for its connection and for each read
	webPoll      = 300 * time.Second // Flume's, where a configuration comes over HTTP
)

// isWeb tells names of the web from those of files.
func isWeb(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// place turns what --conf-uri says into the name that messages use: a path, or a
// URL without what is secret in it, which goes into s.logins.
func (s *source) place(uri, confDir string) (name string, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", errors.New("--conf-uri: a value is no URI") // the error would show a password
	}
	switch strings.ToLower(u.Scheme) {
	case "", "file":
		if u.Scheme != "" && u.Path == "" {
			return "", fmt.Errorf("--conf-uri %s: write file:///path", uri)
		}
		return u.Path, nil
	case "classpath":
		path := strings.TrimLeft(u.Host+u.Path+u.Opaque, "/")
		if confDir == "" || path == "" {
			return "", fmt.Errorf("--conf-uri %s: there is no class path; with --conf DIR it is a file below DIR", uri)
		}
		return filepath.Join(confDir, filepath.FromSlash(path)), nil
	case "http", "https":
		if u.Host == "" {
			return "", errors.New("--conf-uri: a URL has no host")
		}
		u.Scheme = strings.ToLower(u.Scheme)
		login := url.UserPassword(s.user, s.password)
		if s.user == "" || s.password == "" {
			login = u.User
		}
		u.User = nil
		if login != nil {
			if s.logins == nil {
				s.logins = make(map[string]*url.Userinfo)
			}
			s.logins[u.String()] = login
		}
		return u.String(), nil
	}
	return "", fmt.Errorf("--conf-uri: %s is not file, http, https or classpath", u.Scheme)
}

// places makes the list of files of what was given; URIs go before files, as in Flume.
func (s *source) places(confDir string) error {
	if len(s.uris) == 0 {
		return nil
	}
	s.files = nil
	for _, uri := range s.uris {
		name, err := s.place(uri, confDir)
		if err != nil {
			return err
		}
		s.files = append(s.files, name)
	}
	return nil
}

// fetched is what a server said of a configuration last.
type fetched struct{ tag, modified string }

// fetch gets a configuration. fresh is false when the server says that it is
// what it was; then there is no text.
func fetch(name string, login *url.Userinfo, last fetched) (text []byte, now fetched, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, http.NoBody)
	if err != nil {
		return nil, last, false, err
	}
	req.Header.Set("Accept", "text/plain, */*")
	if login != nil {
		password, _ := login.Password()
		req.SetBasicAuth(login.Username(), password)
	}
	if last.tag != "" {
		req.Header.Set("If-None-Match", last.tag)
	}
	if last.modified != "" {
		req.Header.Set("If-Modified-Since", last.modified)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var say *url.Error
		if errors.As(err, &say) {
			err = say.Err // the name is said once
		}
		return nil, last, false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, last, false, nil
	default:
		return nil, last, false, fmt.Errorf("the server answers %s", resp.Status)
	}
	text, err = io.ReadAll(io.LimitReader(resp.Body, conf.MaxFile+1))
	return text, fetched{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}, true, err
}
