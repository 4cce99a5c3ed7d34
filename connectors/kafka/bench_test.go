package kafka

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// BenchmarkEncode is a batch of 1000 events of 200 bytes with a key and a record header.
func BenchmarkEncode(b *testing.B) {
	s := new(sink)
	if _, faults := conf.Bind(s, map[string]string{"kafka.bootstrap.servers": "127.0.0.1:1", "header.h": "H"}); faults.HasErrors() {
		b.Fatal(faults)
	}
	codec, err := s.newCodec()
	if err != nil {
		b.Fatal(err)
	}
	e := event(strings.Repeat("x", 200), "key", "k", "h", "v")
	var enc encoder
	var r record
	var out, datum []byte
	b.SetBytes(1000 * 200)
	b.ReportAllocs()
	for b.Loop() {
		enc.begin()
		for range 1000 {
			datum = s.record(&e, 1700000000000, &r, datum)
			enc.add(&r)
		}
		out = enc.finish(out[:0], codec, producer{id: 1, epoch: 1}, 0)
	}
}

// BenchmarkDecode is the same batch, read into events.
func BenchmarkDecode(b *testing.B) {
	var e encoder
	e.begin()
	for range 1000 {
		e.add(&record{time: 1700000000000, key: []byte("k"), value: []byte(strings.Repeat("x", 200)), headers: []recordHeader{{"H", "v"}}})
	}
	codec, err := newCodec(codecNone, 0)
	if err != nil {
		b.Fatal(err)
	}
	data := e.finish(nil, codec, producer{id: 1, epoch: 1}, 0)
	s := &consumer{setTopic: true, topicHeader: "topic"}
	s.env.Metrics = &metric.Group{}
	p := &puller{g: &generation{s: s}}
	r := s.newReading(topicPartition{"t", 0}, "x", 0, 0)
	b.SetBytes(1000 * 200)
	b.ReportAllocs()
	for b.Loop() {
		rb, _, err := cutBatch(data)
		if err != nil {
			b.Fatal(err)
		}
		batch := core.NewBatch()
		if err := rb.each(rb.records, func(f *fetched) error { p.event(batch, r, f); return nil }); err != nil || len(batch.Events) != 1000 {
			b.Fatal(err, len(batch.Events))
		}
		batch.Release()
	}
}
