package sidecar

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/core/conf"
)

// avroClient is Flume's avro-client: each line that it reads is an event. Other
// than Flume's it ends with 1 when not all of them were delivered.
func (p *Program) avroClient(args []string) int {
	f := newFlags(p, "avro-client")
	var host, port, rpcProps, filename, dirname, headerFile, batch string
	f.String(&host, "host", "H", "HOST", "host of the avro source to send to")
	f.String(&port, "port", "p", "PORT", "its port")
	f.String(&rpcProps, "rpcProps", "P", "FILE", "instead: properties of Flume's RPC client, as hosts, client.type, ssl")
	f.String(&filename, "filename", "F", "FILE", "text file; without it and --dirname standard input is read")
	f.String(&dirname, "dirname", "", "DIR", "folder whose files are sent, the oldest first, and renamed to end in "+completed)
	f.String(&headerFile, "headerFile", "R", "FILE", "properties that are the headers of every event")
	f.String(&batch, "batch-size", "", "N", "lines in one request; 5, as in Flume, or what FILE of --rpcProps says")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	switch {
	case filename != "" && dirname != "":
		return f.wrong("--filename and --dirname exclude each other")
	case rpcProps == "" && host == "" && port == "":
		return f.wrong("either --rpcProps or both --host and --port must be specified")
	case rpcProps == "" && host == "":
		return f.wrong("--host is missing beside --port")
	case rpcProps == "" && port == "":
		return f.wrong("--port is missing beside --host")
	}
	size, err := batchOf(batch)
	if err != nil {
		return f.wrong(err.Error())
	}
	s := &shipment{p: p, batch: size}
	cfg := client.Config{Hosts: []string{net.JoinHostPort(host, port)}}
	if rpcProps != "" {
		if cfg, err = p.rpcConfig(rpcProps); err == nil && s.batch == 0 {
			s.batch = cfg.BatchSize
		}
	} else if n, bad := strconv.ParseUint(port, 10, 16); bad != nil || n == 0 {
		return f.wrong(fmt.Sprintf("--port: %q is not a port", port))
	}
	if s.batch == 0 {
		s.batch = flumeBatch
	}
	if cfg.BatchSize = s.batch; err == nil && headerFile != "" {
		s.headers, err = readProperties(headerFile)
	}
	if err == nil {
		s.to, err = client.New(cfg)
	}
	if err != nil {
		p.complain("avro-client: " + err.Error())
		return exitFailed
	}
	defer s.to.Close()
	began := time.Now()
	switch {
	case dirname != "":
		err = s.folder(dirname)
	case filename != "":
		err = s.file(filename)
	default:
		err = s.lines(p.Stdin)
	}
	fmt.Fprintf(p.Stdout, "%s delivered, %s, in %v\n", count(s.sent, "event"), count(s.bytes, "byte"), time.Since(began).Round(time.Millisecond))
	if err != nil {
		p.complain("avro-client: " + err.Error())
		return exitFailed
	}
	return exitOK
}

// flumeBatch is the batch of Flume's client where properties do not say another.
const flumeBatch = 5

// completed ends the name of a file that was sent.
const completed = ".COMPLETED"

// maxLine is the longest line.
const maxLine = 16 << 20

func batchOf(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("--batch-size: %q is not a whole number of at least 1", text)
	}
	return n, nil
}

// rpcConfig reads a file of properties of Flume's RPC client.
func (p *Program) rpcConfig(file string) (client.Config, error) {
	props, err := readProperties(file)
	if err != nil {
		return client.Config{}, err
	}
	cfg, warnings, err := client.FromProperties(props)
	for _, w := range warnings {
		p.complain("avro-client: warning: " + file + ": " + w)
	}
	if err != nil {
		return cfg, fmt.Errorf("%s: %w", file, err)
	}
	return cfg, nil
}

func readProperties(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, faults := conf.ParseProperties(file, text, 0)
	if faults.HasErrors() {
		return nil, errors.New(faults[0].String())
	}
	props := make(map[string]string, len(list))
	for _, x := range list {
		props[x.Key] = x.Value
	}
	return props, nil
}

// shipment is what is sent, and what has been.
type shipment struct {
	p       *Program
	to      *client.Client
	batch   int
	headers map[string]string

	events      []client.Event
	sent, bytes int
}

func (s *shipment) folder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type file struct {
		path string
		when time.Time
	}
	var files []file
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), completed) {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			files = append(files, file{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Or(a.when.Compare(b.when), cmp.Compare(a.path, b.path)) })
	for _, f := range files {
		if err := s.file(f.path); err != nil {
			return err
		}
		if _, err := os.Lstat(f.path + completed); err == nil {
			return fmt.Errorf("rename %s: there is a file %s already", f.path, f.path+completed)
		}
		if err := os.Rename(f.path, f.path+completed); err != nil {
			return err
		}
	}
	return nil
}

func (s *shipment) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.lines(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// lines sends the lines of r, which end in LF, CR or CRLF; the last need not
// end. A batch that is not full goes out when more is not there yet.
func (s *shipment) lines(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	add := func() error {
		s.events = append(s.events, client.Event{Headers: s.headers, Body: line})
		line = nil
		if len(s.events) == s.batch {
			return s.flush()
		}
		return nil
	}
	for after := byte(0); ; {
		if in.Buffered() == 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
		c, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				if err := add(); err != nil {
					return err
				}
			}
			return s.flush()
		case err != nil:
			return errors.Join(err, s.flush())
		case c == '\n' && after == '\r': // the end of a line that has been taken
		case c == '\n' || c == '\r':
			if err := add(); err != nil {
				return err
			}
		case len(line) == maxLine:
			return errors.Join(fmt.Errorf("line %d is longer than %d bytes", s.sent+len(s.events)+1, maxLine), s.flush())
		default:
			line = append(line, c)
		}
		after = c
	}
}

func (s *shipment) flush() error {
	if len(s.events) == 0 {
		return nil
	}
	n := len(s.events)
	err := s.to.AppendBatch(context.Background(), s.events)
	var failed *client.DeliveryError
	if errors.As(err, &failed) {
		n = failed.Sent
	}
	s.sent += n
	for _, e := range s.events[:n] {
		s.bytes += len(e.Body)
	}
	s.events = s.events[:0]
	return err
}
