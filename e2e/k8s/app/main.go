// app is the application of the tests in Kubernetes: it writes numbered lines
// into a log, rotates it, and tells a ledger outside of the pod of each line that
// the log has taken. What the ledger knows must be delivered, however the pod ends.
//
//	LEDGER   host:port of the ledger, by TCP: "RUN NUMBER" and a line break for each line
//	POD      the pod's name
//	LOG      the log; rotated by renaming it to LOG.RUN-NUMBER
//	LINES    how many lines until it ends by itself; 0: until it is told
//	FAILS    how many of its runs in a pod end with status 1 all the same, counted by files beside the log
//	EAT      after how many lines it takes all memory there is; 0: never
//	FILL     after how many lines it puts 8 MiB beside the log; 0: never
//	LINGER   how long it is silent after SIGTERM, before its last lines: 3s
//	DEAF     1: SIGTERM does not end it
package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pause     = 10 * time.Millisecond // between lines
	rotateAt  = 97                    // lines
	lastLines = 20                    // after SIGTERM: what an application says while it ends
)

// padding makes lines of a usual length.
var padding = strings.Repeat("x", 80)

type app struct {
	run    string
	log    string
	file   *os.File
	ledger net.Conn
	n      int
}

func main() {
	log.SetFlags(log.Lmicroseconds)
	stop := make(chan os.Signal, 1)
	if os.Getenv("DEAF") == "1" {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(stop, syscall.SIGTERM)
	}
	a := &app{run: os.Getenv("POD") + "/" + strings.ToLower(rand.Text()[:8]), log: os.Getenv("LOG")}
	lines, eat, fill, fails := number("LINES"), number("EAT"), number("FILL"), number("FAILS")
	linger, err := time.ParseDuration(cmp.Or(os.Getenv("LINGER"), "0s"))
	if err != nil {
		log.Fatal(err)
	}
	if err := a.open(); err != nil {
		log.Fatal(err)
	}
	for lines == 0 || a.n < lines {
		select {
		case <-stop:
			log.Print("heard SIGTERM")
			time.Sleep(linger)
			for range lastLines {
				a.write()
			}
			a.end("told to")
			return
		default:
		}
		a.write()
		if eat > 0 && a.n == eat {
			eatMemory()
		}
		if fill > 0 && a.n == fill {
			a.beside("ballast", make([]byte, 8<<20))
		}
	}
	a.end("done")
	failed, err := filepath.Glob(filepath.Join(filepath.Dir(a.log), "failed-*"))
	if err != nil {
		log.Fatal(err)
	}
	if len(failed) < fails {
		a.beside(fmt.Sprint("failed-", len(failed)), nil)
		log.Fatal("failed on purpose")
	}
}

// beside puts a file beside the log that is none.
func (a *app) beside(name string, text []byte) {
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.log), name), text, 0o644); err != nil {
		log.Fatal(err)
	}
}

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil && os.Getenv(name) != "" {
		log.Fatalf("%s: %v", name, err)
	}
	return n
}

// open opens the log and the ledger; without a ledger nothing is written.
func (a *app) open() (err error) {
	for range 300 {
		if a.ledger, err = net.DialTimeout("tcp", os.Getenv("LEDGER"), time.Second); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	a.file, err = os.OpenFile(a.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return err
}

func (a *app) write() {
	a.n++
	if _, err := fmt.Fprintf(a.file, "%s %d %s\n", a.run, a.n, padding); err != nil {
		log.Fatal(err)
	}
	if _, err := fmt.Fprintf(a.ledger, "%s %d\n", a.run, a.n); err != nil {
		log.Fatal(err)
	}
	if a.n%rotateAt == 0 {
		if err := os.Rename(a.log, fmt.Sprintf("%s.%s-%d", a.log, strings.ReplaceAll(a.run, "/", "_"), a.n)); err != nil {
			log.Fatal(err)
		}
		_ = a.file.Close() // nothing is buffered
		var err error
		if a.file, err = os.OpenFile(a.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	time.Sleep(pause)
}

func (a *app) end(why string) { log.Printf("%s: %s ends after line %d", why, a.run, a.n) }

// eatMemory asks for more than the container may have, and uses it.
func eatMemory() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
		if len(all) > 1<<12 {
			log.Fatal("4 GiB, and nobody minds")
		}
	}
}
