package hdfs

import (
	"errors"
	"reflect"
	"sync"
	"time"

	hadoop "github.com/colinmarc/hdfs/v2"
)

// A file may be closed when one data node has told the name node of its replica
// of the last block; the others follow. The library appends to those that the
// name node knows by then, and does not give the block a new generation, as
// Hadoop's client does: so a replica that was not known stays behind, and HDFS
// takes it for as good as the others. What was appended would be on fewer nodes
// than HDFS believes, and be lost with them. So a file is gone on with only when
// the name node knows as many replicas as were written.

var errReplicas = errors.New("the name node does not know all replicas of its last block")

// pipeline returns how many data nodes the open block of w goes to; 0: none is
// open. The library tells nobody, so it is read where the library keeps it.
func pipeline(w *hadoop.FileWriter) int {
	block := reflect.ValueOf(w).Elem().FieldByName("blockWriter")
	if block.IsNil() {
		return 0
	}
	located := block.Elem().FieldByName("Block")
	if located.IsNil() {
		return 0
	}
	return located.Elem().FieldByName("Locs").Len()
}

// replicas are those of the last blocks of files that were closed, by path.
type replicas struct {
	mu sync.Mutex
	of map[string]int
}

func (r *replicas) wrote(path string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]int{}
	}
	r.of[path] = n
}

func (r *replicas) written(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[path]
}

func (r *replicas) forget(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, path)
}

// replicaWait is how long data nodes may take to tell of their replicas.
const replicaWait = 2 * time.Second

// goOn opens a file with open until the open block is on as many nodes as were
// written. What it opens without using it, it closes.
func (r *replicas) goOn(name string, open func() (*hadoop.FileWriter, error)) (*hadoop.FileWriter, error) {
	return whole(r.written(name), open, pipeline, func(w *hadoop.FileWriter) error { return w.Close() })
}

// whole calls open until what it opens has want nodes, or no open block.
func whole[W any](want int, open func() (W, error), nodes func(W) int, shut func(W) error) (W, error) {
	end := time.Now().Add(replicaWait)
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		w, err := open()
		if err != nil {
			return w, err
		}
		if n := nodes(w); n == 0 || n >= want {
			return w, nil
		}
		var none W
		if err := shut(w); err != nil {
			return none, err
		}
		if time.Now().Add(wait).After(end) {
			return none, errReplicas
		}
		time.Sleep(wait)
	}
}
