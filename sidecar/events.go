package sidecar

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

const (
	eventsEvery = time.Second
	mostStreams = 16               // /events and /tap at a time
	streamStall = 10 * time.Second // how long a client may take none of what is written
)

// stream is an answer without an end. Nothing runs for it but the goroutine of its request.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

// openStream begins one; ok is false if it was refused. end comes when the request is over.
func (s *adminServer) openStream(w http.ResponseWriter, typ string) (_ *stream, end func(), ok bool) {
	if s.streams.Add(1) > mostStreams {
		s.streams.Add(-1)
		http.Error(w, "too many look already", http.StatusServiceUnavailable)
		return nil, nil, false
	}
	patient(w)
	w.Header().Set("Content-Type", typ)
	w.Header().Set("X-Accel-Buffering", "no") // a proxy is not to collect it
	return &stream{w, http.NewResponseController(w)}, func() { s.streams.Add(-1) }, true
}

// write sends one piece; false: nobody takes it.
func (s *stream) write(parts ...string) bool {
	_ = s.c.SetWriteDeadline(time.Now().Add(streamStall)) // a writer without deadlines needs none
	for _, p := range parts {
		if _, err := io.WriteString(s.w, p); err != nil {
			return false
		}
	}
	return s.c.Flush() == nil
}

// events sends the status every second, for as long as somebody takes it.
func (s *adminServer) events(w http.ResponseWriter, r *http.Request) {
	out, end, ok := s.openStream(w, "text/event-stream")
	if !ok {
		return
	}
	defer end()
	every := time.NewTicker(eventsEvery)
	defer every.Stop()
	for {
		text, err := json.Marshal(s.full())
		if err != nil || !out.write("data: ", string(text), "\n\n") {
			return
		}
		select {
		case <-every.C:
		case <-r.Context().Done():
			return
		case <-s.over:
			return
		}
	}
}
