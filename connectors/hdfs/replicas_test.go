package hdfs

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	hadoop "github.com/colinmarc/hdfs/v2"
)

// A file is gone on with when all its replicas are known, and not before.
func TestAppendWaitsForReplicas(t *testing.T) {
	for _, c := range []struct {
		name  string
		want  int
		known []int // at the tries; the last one for ever
		opens int   // tries, all but the last closed again
		fails bool
	}{
		{"all are known", 3, []int{3}, 1, false},
		{"more than were written", 2, []int{3}, 1, false},
		{"no block is open", 3, []int{0}, 1, false},
		{"nothing is known of what was written", 0, []int{1}, 1, false},
		{"they come one by one", 3, []int{1, 2, 2, 3}, 4, false},
		{"one never comes", 3, []int{1, 2}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opens, shuts, began := 0, 0, time.Now()
				n, err := whole(c.want, func() (int, error) {
					opens++
					return c.known[min(opens, len(c.known))-1], nil
				}, func(n int) int { return n }, func(int) error {
					shuts++
					return nil
				})
				if took := time.Since(began); took > replicaWait {
					t.Errorf("it took %v", took)
				}
				if c.fails {
					if !errors.Is(err, errReplicas) || shuts != opens {
						t.Errorf("%v; %d opened, %d closed", err, opens, shuts)
					}
					return
				}
				if err != nil || opens != c.opens || shuts != opens-1 || n != c.known[len(c.known)-1] {
					t.Errorf("%v; %d opened, %d closed", err, opens, shuts)
				}
			})
		})
	}
}

func TestAppendFails(t *testing.T) {
	open := errors.New("open")
	if _, err := whole(1, func() (int, error) { return 0, open }, func(int) int { return 0 }, func(int) error { return nil }); !errors.Is(err, open) {
		t.Error(err)
	}
	shut := errors.New("shut")
	if _, err := whole(2, func() (int, error) { return 1, nil }, func(n int) int { return n }, func(int) error { return shut }); !errors.Is(err, shut) {
		t.Error(err)
	}
}

// The library keeps the data nodes of a block where pipeline reads them. If this
// fails after an update of it, look how an append finds its nodes now.
func TestPipelineOfLibrary(t *testing.T) {
	if n := pipeline(new(hadoop.FileWriter)); n != 0 {
		t.Errorf("a file without a block has %d nodes", n)
	}
	at := reflect.TypeFor[hadoop.FileWriter]()
	for _, name := range []string{"blockWriter", "Block", "Locs"} {
		f, ok := at.FieldByName(name)
		if !ok {
			t.Fatalf("%v has no field %s", at, name)
		}
		if at = f.Type; at.Kind() == reflect.Pointer {
			at = at.Elem()
		}
	}
	if at.Kind() != reflect.Slice {
		t.Errorf("the nodes are a %v", at)
	}
}

func TestReplicasAreRemembered(t *testing.T) {
	var r replicas
	r.wrote("/a", 3)
	r.wrote("/a", 2)
	r.wrote("/b", 1)
	r.forget("/b")
	r.forget("/c")
	if r.written("/a") != 2 || r.written("/b") != 0 {
		t.Errorf("%v", r.of)
	}
}
