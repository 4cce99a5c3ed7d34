package core

import (
	"context"
	"errors"
)

// WriterSink makes a Sink of a Writer: one batch at a time, acked when written.
func WriterSink(w Writer) Sink { return &writerSink{w} }

// WriterType makes a sink's catalogue entry of a Writer's.
func WriterType(t Type[Writer]) Type[Sink] {
	return Type[Sink]{Name: t.Name, Doc: t.Doc, Aliases: t.Aliases, New: func() Sink { return WriterSink(t.New()) }}
}

type writerSink struct{ Writer }

func (w *writerSink) Deliver(ctx context.Context, tx TakeTx) {
	err := w.Write(ctx, tx.Batch())
	var some EventErrors
	switch {
	case err == nil:
		tx.Ack(nil)
	case errors.As(err, &some):
		rest := make([]int32, 0, len(tx.Batch().Events))
		for i := range tx.Batch().Events {
			if some[i] == nil {
				rest = append(rest, int32(i))
			}
		}
		if len(rest) > 0 {
			tx.Ack(rest)
		}
		for i, why := range some {
			tx.Refuse(i, why)
		}
	case IsPermanent(err):
		for i := range tx.Batch().Events {
			tx.Refuse(i, err)
		}
	default:
		tx.Rollback(err)
	}
}

func (w *writerSink) Flush(context.Context) error { return nil }
