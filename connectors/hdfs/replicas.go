package hdfs

import (
	"errors"
	"reflect"
	"slices"
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
// the name node knows the replicas that were written, and no other: one more was
// copied by HDFS, for want of replicas, perhaps before what was appended last. It
// is shorter then, and where a writer dies HDFS cuts the others to its length.

var (
	errReplicas = errors.New("the name node does not know all replicas of its last block")
	errCopied   = errors.New("HDFS has copied its last block to another data node")
)

// pipeline returns the data nodes that the open block of w goes to, in order, and
// whether a block is open. There may be one without nodes, for a name node that has
// just become the active one: the library panics where it is written to. The
// library tells nobody, so it is read where the library keeps it.
func pipeline(w *hadoop.FileWriter) (nodes []string, open bool) {
	block := reflect.ValueOf(w).Elem().FieldByName("blockWriter")
	if block.IsNil() {
		return nil, false
	}
	located := block.Elem().FieldByName("Block")
	if located.IsNil() {
		return nil, false
	}
	locs := located.Elem().FieldByName("Locs")
	for i := range locs.Len() {
		id := locs.Index(i).Elem().FieldByName("Id")
		nodes = append(nodes, id.Elem().FieldByName("DatanodeUuid").Elem().String())
	}
	slices.Sort(nodes)
	return nodes, true
}

// replicas are those of the last blocks of files that were closed, by path.
type replicas struct {
	mu sync.Mutex
	of map[string][]string
}

func (r *replicas) wrote(path string, nodes []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string][]string{}
	}
	r.of[path] = nodes
}

func (r *replicas) written(path string) []string {
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

// goOn opens a file with open until the open block is on the nodes that were
// written. What it opens without using it, it closes.
func (r *replicas) goOn(name string, open func() (*hadoop.FileWriter, error)) (*hadoop.FileWriter, error) {
	return whole(r.written(name), open, pipeline, func(w *hadoop.FileWriter) error { return w.Close() })
}

// whole calls open until what it opens has the nodes of want, or no open block;
// any nodes if none are wanted.
func whole[W any](want []string, open func() (W, error), nodes func(W) ([]string, bool), shut func(W) error) (W, error) {
	end := time.Now().Add(replicaWait)
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		w, err := open()
		if err != nil {
			return w, err
		}
		got, block := nodes(w)
		if !block || len(got) > 0 && (len(want) == 0 || slices.Equal(got, want)) {
			return w, nil
		}
		var none W
		if err := shut(w); err != nil {
			return none, err
		}
		if slices.ContainsFunc(got, func(node string) bool { return !slices.Contains(want, node) }) {
			return none, errCopied
		}
		if time.Now().Add(wait).After(end) {
			return none, errReplicas
		}
		time.Sleep(wait)
	}
}
