package hdfs

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	hadoop "github.com/colinmarc/hdfs/v2"
)

// A file is gone on with when all its replicas are known, and not before.
func TestAppendWaitsForReplicas(t *testing.T) {
	for _, c := range []struct {
		name  string
		want  string   // a letter for each node
		known []string // at the tries; the last one for ever
		opens int      // tries, all but the last closed again
		fails error
	}{
		{"all are known", "abc", []string{"abc"}, 1, nil},
		{"one more was copied", "ab", []string{"abc"}, 1, errCopied},
		{"one was copied in place of another", "abc", []string{"ab", "abd"}, 2, errCopied},
		{"no block is open", "abc", []string{"-"}, 1, nil},
		{"the name node knows none yet", "abc", []string{"", "", "abc"}, 3, nil},
		{"the name node knows none yet, nor do we", "", []string{"", "ab"}, 2, nil},
		{"the name node knows none", "", []string{""}, 0, errReplicas},
		{"nothing is known of what was written", "", []string{"a"}, 1, nil},
		{"they come one by one", "abc", []string{"a", "ac", "ac", "abc"}, 4, nil},
		{"one never comes", "abc", []string{"b", "ab"}, 0, errReplicas},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opens, shuts, began := 0, 0, time.Now()
				got, err := whole(letters(c.want), func() (string, error) {
					opens++
					return c.known[min(opens, len(c.known))-1], nil
				}, block, func(string) error {
					shuts++
					return nil
				})
				if took := time.Since(began); took > replicaWait {
					t.Errorf("it took %v", took)
				}
				if c.fails != nil {
					if !errors.Is(err, c.fails) || shuts != opens || c.opens > 0 && opens != c.opens {
						t.Errorf("%v; %d opened, %d closed", err, opens, shuts)
					}
					return
				}
				if err != nil || opens != c.opens || shuts != opens-1 || got != c.known[len(c.known)-1] {
					t.Errorf("%v; %d opened, %d closed", err, opens, shuts)
				}
			})
		})
	}
}

// letters are the nodes of a block.
func letters(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "")
}

// block is the open block of a file with such nodes; "-": there is none.
func block(s string) ([]string, bool) { return letters(s), s != "-" }

func TestAppendFails(t *testing.T) {
	open := errors.New("open")
	if _, err := whole(letters("a"), func() (string, error) { return "", open }, block, func(string) error { return nil }); !errors.Is(err, open) {
		t.Error(err)
	}
	shut := errors.New("shut")
	if _, err := whole(letters("ab"), func() (string, error) { return "a", nil }, block, func(string) error { return shut }); !errors.Is(err, shut) {
		t.Error(err)
	}
}

// The library keeps the data nodes of a block where pipeline reads them. If this
// fails after an update of it, look how an append finds its nodes now.
func TestPipelineOfLibrary(t *testing.T) {
	if nodes, open := pipeline(new(hadoop.FileWriter)); len(nodes) != 0 || open {
		t.Errorf("a file without a block has the nodes %v", nodes)
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
		t.Fatalf("the nodes are a %v", at)
	}
	id, _ := at.Elem().Elem().FieldByName("Id")
	if uuid, ok := id.Type.Elem().FieldByName("DatanodeUuid"); !ok || uuid.Type != reflect.TypeFor[*string]() {
		t.Errorf("a node's id is in %v", id.Type)
	}
}

func TestReplicasAreRemembered(t *testing.T) {
	var r replicas
	r.wrote("/a", letters("abc"))
	r.wrote("/a", letters("ab"))
	r.wrote("/b", letters("a"))
	r.forget("/b")
	r.forget("/c")
	if !slices.Equal(r.written("/a"), letters("ab")) || len(r.written("/b")) > 0 {
		t.Errorf("%v", r.of)
	}
}
