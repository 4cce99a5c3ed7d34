package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

const connections = 4

// feedSyslog sends the events as RFC 5424 lines over four connections.
func (s *stage) feedSyslog(addr string) error {
	return inParallel(connections, func(int) error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		w := bufio.NewWriterSize(c, 64<<10)
		line := syslogLine()
		for range s.events / connections {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return w.Flush()
	})
}

// syslogLine is 200 bytes long.
func syslogLine() []byte {
	line := []byte("<134>1 2026-11-22T17:05:00.123Z web-1.example.com shop 4711 ID47 - ")
	for len(line) < lineBytes-1 {
		line = append(line, "order accepted "...)
	}
	return append(line[:lineBytes-1], '\n')
}

const httpBatch = 100

// feedHTTP posts JSON batches of 100 over four connections.
func (s *stage) feedHTTP(addr string) error {
	body := jsonBatch()
	return inParallel(connections, func(int) error {
		c := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
		defer c.CloseIdleConnections()
		for range s.events / connections / httpBatch {
			resp, err := c.Post("http://"+addr, "application/json", bytes.NewReader(body))
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
		}
		return nil
	})
}

// jsonBatch is 100 events whose bodies fill up to 200 bytes each, headers included.
func jsonBatch() []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range httpBatch {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"headers":{"host":"web-1"},"body":"%s"}`, bytes.Repeat([]byte(strconv.Itoa(i%10)), 160))
	}
	b.WriteByte(']')
	return b.Bytes()
}

// inParallel runs f n times at once and joins the errors.
func inParallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// limitHTTP answers 200 to the same requests and throws the bodies away.
func (s *stage) limitHTTP() (figure, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return figure{}, err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	return loop(func() error { return s.feedHTTP(l.Addr().String()) })
}
