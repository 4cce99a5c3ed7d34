package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The loops a program could at best be: run in this process, timed like one.

func usage() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func loop(f func() error) (figure, error) {
	began, cpu := time.Now(), usage()
	err := f()
	return figure{wall: time.Since(began), cpu: usage() - cpu}, err
}

// readAll reads a file in blocks of 256 KiB and counts its lines.
func readAll(name string) (lines int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		lines += bytes.Count(buf[:n], []byte{'\n'})
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

// copyFile reads blocks and writes them; with sync it appends and fdatasyncs each MiB.
func copyFile(to, from string, block int, sync bool) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, block)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
			if sync {
				if err := syscall.Fdatasync(int(out.Fd())); err != nil {
					return err
				}
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *stage) limitCopy(sync bool) func() (figure, error) {
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		block := 256 << 10
		if sync {
			block = 1 << 20
		}
		return loop(func() error { return copyFile(filepath.Join(dir, "out", "copy"), s.file(), block, sync) })
	}
}

// limitTCP sends all that feed sends to a listener that only reads.
func (s *stage) limitTCP(feed func(addr string) error) func() (figure, error) {
	return func() (figure, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return figure{}, err
		}
		var readers sync.WaitGroup
		var accept sync.WaitGroup
		accept.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				readers.Go(func() {
					defer c.Close()
					buf := make([]byte, 256<<10)
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
					}
				})
			}
		})
		f, err := loop(func() error {
			if err := feed(l.Addr().String()); err != nil {
				return err
			}
			l.Close()
			accept.Wait()
			readers.Wait()
			return nil
		})
		return f, err
	}
}
