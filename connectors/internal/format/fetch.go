package format

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// ReadHDFS reads a file of HDFS. authority is a host, host:port or name service;
// empty: Hadoop's own. A file that is not there is fs.ErrNotExist. What is behind
// limit bytes is left out.
type ReadHDFS func(authority, path string, limit int64) ([]byte, error)

const fetchTimeout = 10 * time.Second

// fetcher reads schemas at URLs.
type fetcher struct {
	fs     vfs.FS
	hdfs   ReadHDFS // nil: none
	client *http.Client
}

func newFetcher(env core.Env, hdfs ReadHDFS) *fetcher {
	// One request in minutes: a connection that is kept would be of no use.
	return &fetcher{env.FS, hdfs, &http.Client{
		Timeout:   fetchTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
	}}
}

var (
	errScheme = errors.New("is no URL of a schema: it begins with file:, http:, https: or hdfs:")
	errUser   = errors.New("is not supported with a user in it")
	errNoHDFS = core.PermanentError(errors.New("hdfs: URLs are for the hdfs sink"))
)

// parseURL reads a URL, or says what is wrong with it without showing it.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errScheme // url's own error shows all of it, also a password
	}
	switch {
	case u.User != nil:
		return nil, errUser
	case u.Scheme == "http" && u.Host != "", u.Scheme == "https" && u.Host != "", u.Scheme == "hdfs" && u.Path != "":
		return u, nil
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && u.Path != "":
		return u, nil
	}
	return nil, errScheme
}

// schema fetches and reads one. A permanent error: there is none. Errors show
// nothing of what was fetched, which may be any file that the agent can read.
func (f *fetcher) schema(ctx context.Context, text string) (*BodySchema, error) {
	u, err := parseURL(text)
	if err != nil {
		return nil, core.PermanentError(err)
	}
	data, err := f.read(ctx, u)
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path} // a query may hold a secret
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", shown.String(), err)
	}
	if len(data) > maxBodySchema {
		return nil, core.PermanentError(fmt.Errorf("%s has more than %d bytes", shown.String(), maxBodySchema))
	}
	schema, err := parseBodySchema(string(data))
	if err != nil {
		return nil, core.PermanentError(fmt.Errorf("%s has no Avro schema", shown.String()))
	}
	return schema, nil
}

// read returns one byte more than a schema may have, at most.
func (f *fetcher) read(ctx context.Context, u *url.URL) (data []byte, err error) {
	switch u.Scheme {
	case "file":
		data, err = f.file(filepath.FromSlash(u.Path))
	case "hdfs":
		if f.hdfs == nil {
			return nil, errNoHDFS
		}
		data, err = f.hdfs(u.Host, u.Path, maxBodySchema+1)
	default:
		return f.http(ctx, u)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = core.PermanentError(err)
	}
	return data, err
}

func (f *fetcher) file(path string) ([]byte, error) {
	info, err := f.fs.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe may never return
		return nil, core.PermanentError(errors.New("not a regular file"))
	}
	file, err := f.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(file, maxBodySchema+1))
}

func (f *fetcher) http(ctx context.Context, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, core.PermanentError(errScheme)
	}
	res, err := f.client.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // e shows the whole URL
		}
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // the connection ends with it
	switch res.StatusCode {
	case http.StatusOK:
		return io.ReadAll(io.LimitReader(res.Body, maxBodySchema+1))
	case http.StatusNotFound, http.StatusGone:
		return nil, core.PermanentError(errors.New(res.Status))
	}
	return nil, errors.New(res.Status) // also a refusal: rights can be given
}
