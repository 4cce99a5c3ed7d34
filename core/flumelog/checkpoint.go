package flumelog

import (
	"crypto/md5" // the format's
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/millrace/millrace/core/vfs"
)

// checkpoint is the state of the queue at a write order.
type checkpoint struct {
	order       int64
	queue       []pointer
	takes, puts []inflight
}

// inflight is a transaction that was open at the checkpoint.
type inflight struct {
	transaction int64
	pointers    []pointer
}

const (
	ringStart = 1029 // words before the ring
	wordOrder = 1
	wordState = 4 // 0: the checkpoint is complete
	maxRing   = 1 << 30
)

func pointerOf(word uint64) pointer { return pointer{uint32(word >> 32), uint32(word)} }

// readCheckpoint reads the checkpoint of dir. An error says why it is not to be used.
func readCheckpoint(fsys vfs.FS, dir string) (*checkpoint, error) {
	text, err := vfs.ReadFile(fsys, filepath.Join(dir, "checkpoint.meta"))
	if err != nil {
		return nil, err
	}
	m, _, err := delimited(text)
	if err != nil {
		return nil, errors.New("checkpoint.meta cannot be read")
	}
	var version, order, size, head uint64
	if err := message(m).each(func(f field) {
		switch f.number {
		case 1:
			version = f.value
		case 2:
			order = f.value
		case 3:
			size = f.value
		case 4:
			head = f.value
		}
	}); err != nil {
		return nil, errors.New("checkpoint.meta cannot be read")
	}
	name := filepath.Join(dir, "checkpoint")
	info, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxRing {
		return nil, errors.New("checkpoint is too large")
	}
	b, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	word := func(i uint64) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	if len(b)%8 != 0 || len(b)/8 <= ringStart {
		return nil, fmt.Errorf("checkpoint has %d bytes", len(b))
	}
	capacity := uint64(len(b)/8 - ringStart)
	switch {
	case version != 3 || word(0) != 3:
		return nil, fmt.Errorf("checkpoint is of format %d", version)
	case word(wordState) != 0:
		return nil, errors.New("checkpoint was being written when Flume ended")
	case word(wordOrder) != order:
		return nil, errors.New("checkpoint and checkpoint.meta are of different times")
	case size > capacity || head >= capacity:
		return nil, errors.New("checkpoint.meta does not fit checkpoint")
	}
	c := &checkpoint{order: int64(order)}
	for i := range size {
		w := word(ringStart + (head+i)%capacity)
		if w == 0 {
			return nil, errors.New("checkpoint has an empty place in its queue")
		}
		c.queue = append(c.queue, pointerOf(w))
	}
	if c.takes, err = readInflight(fsys, filepath.Join(dir, "inflighttakes")); err != nil {
		return nil, err
	}
	c.puts, err = readInflight(fsys, filepath.Join(dir, "inflightputs"))
	return c, err
}

func readInflight(fsys vfs.FS, name string) (list []inflight, err error) {
	b, err := vfs.ReadFile(fsys, name)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	bad := fmt.Errorf("%s is damaged", filepath.Base(name))
	if len(b) < md5.Size || md5.Sum(b[md5.Size:]) != [md5.Size]byte(b) {
		return nil, bad
	}
	for b = b[md5.Size:]; len(b) > 0; {
		if len(b) < 16 {
			return nil, bad
		}
		x := inflight{transaction: int64(binary.BigEndian.Uint64(b))}
		n := binary.BigEndian.Uint64(b[8:])
		if b = b[16:]; n > uint64(len(b)/8) {
			return nil, bad
		}
		for range n {
			x.pointers = append(x.pointers, pointerOf(binary.BigEndian.Uint64(b)))
			b = b[8:]
		}
		list = append(list, x)
	}
	return list, nil
}
