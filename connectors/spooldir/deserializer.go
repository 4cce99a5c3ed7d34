package spooldir

import (
	"errors"
	"io"
	"slices"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
)

// deserializer makes events of the content of one file.
type deserializer interface {
	// fill adds events until c is full. At the end of the input it returns
	// io.EOF; what may still become an event then is kept for rest. Any other
	// error comes after the events before its place.
	fill(c *collector) error
	// rest adds what is left when the file is known to have ended.
	rest(c *collector) error
	// positions is up to where everything has become events, in the unit of
	// positions of this deserializer.
	positions() lines.Positions
	// mark is that place as Flume tells it: an offset in the file; where it has no
	// name for a place between, one before it.
	mark() int64
	// close gives memory back. Events keep theirs.
	close()
}

// batchBytes is how many bytes of bodies one batch has, about, at most.
const batchBytes = 1 << 20

// collector takes events of one file, a batch for each stream.
type collector struct {
	limit   int // events in a batch
	batches [lines.Streams]struct {
		b     *core.Batch
		bytes int
		blk   *core.Block // the one that b was last told of
	}
	full bool
}

func (c *collector) batch(s lines.Stream) *core.Batch {
	to := &c.batches[s]
	if to.b == nil {
		to.b, to.bytes, to.blk = core.NewBatch(), 0, nil
	}
	return to.b
}

// add adds an event whose body is memory of blk; end is where it ends in the
// stream Raw.
func (c *collector) add(blk *core.Block, h core.Headers, body []byte, end int64) {
	b := c.batch(lines.Raw)
	if to := &c.batches[lines.Raw]; to.blk != blk {
		b.Use(blk)
		to.blk = blk
	}
	b.Append(h, body)
	c.added(lines.Raw, len(body), end)
}

// copy adds an event with a copy of body.
func (c *collector) copy(s lines.Stream, h core.Headers, body []byte, end int64) {
	c.batch(s).Copy(h, body)
	c.added(s, len(body), end)
}

func (c *collector) added(s lines.Stream, size int, end int64) {
	to := &c.batches[s]
	to.b.Events[len(to.b.Events)-1].Pos = position(end)
	to.bytes += size
	c.full = c.full || len(to.b.Events) >= c.limit || to.bytes >= batchBytes
}

// take returns the batch of a stream, which is the caller's then, or nil.
func (c *collector) take(s lines.Stream) *core.Batch {
	b := c.batches[s].b
	c.batches[s].b, c.batches[s].blk = nil, nil
	return b
}

// empty reports whether nothing is collected.
func (c *collector) empty() bool {
	for s := range c.batches {
		if c.batches[s].b != nil {
			return false
		}
	}
	return true
}

// drop gives up what was collected.
func (c *collector) drop() {
	for s := range c.batches {
		if b := c.batches[s].b; b != nil {
			b.Release()
			c.batches[s].b = nil
		}
	}
}

// position is what the channels know an offset by. The event of an empty file
// ends at offset 0, and 0 means no position.
func position(off int64) int64 { return off + 1 }

// offset is the reverse of position; of no position it is the beginning.
func offset(pos int64) int64 { return max(0, pos-1) }

// blobReader is the deserializer BLOB: the file is one event.
type blobReader struct {
	in    *input
	head  core.Headers
	limit int64
	blk   *core.Block
	n     int
	hint  int64
}

func newBlobReader(s *source, in *input, head core.Headers, done, size int64) (*blobReader, error) {
	if err := in.skip(done); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &blobReader{in: in, head: head, limit: s.maxBlob, hint: max(0, size-done)}, nil
}

func (r *blobReader) fill(c *collector) error {
	for {
		if int64(r.n) == r.limit {
			// As in Flume what is too long is cut. Here the next file may be empty, there not.
			r.put(c)
			return nil
		}
		if r.blk == nil || r.n == len(r.blk.Buf) {
			want := max(min(r.hint+1, r.limit), 4<<10)
			if r.blk != nil {
				want = min(2*int64(r.n), r.limit)
			}
			blk := core.NewBlock(int(want))
			if r.blk != nil {
				copy(blk.Buf, r.blk.Buf[:r.n])
				r.blk.Release()
			}
			r.blk = blk
		}
		n, err := r.in.Read(r.blk.Buf[r.n:min(int64(len(r.blk.Buf)), r.limit)])
		r.n += n
		if err != nil {
			return err
		}
	}
}

func (r *blobReader) rest(c *collector) error {
	if r.n > 0 {
		r.put(c)
	}
	return nil
}

func (r *blobReader) put(c *collector) {
	c.add(r.blk, r.head, r.blk.Buf[:r.n:r.n], r.in.at)
	r.blk.Release()
	r.blk, r.n = nil, 0
	r.hint = 0
}

func (r *blobReader) positions() lines.Positions { return lines.At(r.in.at - int64(r.n)) }

func (r *blobReader) mark() int64 { return r.in.at - int64(r.n) }

func (r *blobReader) close() {
	if r.blk != nil {
		r.blk.Release()
	}
}

// clip is a copy of a part of data that goes on the log or into an error.
func clip(data []byte) []byte { return slices.Clone(data[:min(len(data), 40)]) }
