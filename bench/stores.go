package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	hadoop "github.com/colinmarc/hdfs/v2"
	kafkago "github.com/segmentio/kafka-go"
)

// Rows of Kafka, HDFS and S3: the limit is the client library's own bare loop
// over the same lines, one goroutine, what is sent awaited. The servers are
// those of e2e/services, on this machine: they share its cores.

const (
	toKafka = `
a1.sinks.k.type = org.apache.flume.sink.kafka.KafkaSink
a1.sinks.k.kafka.bootstrap.servers = localhost:PORT
a1.sinks.k.kafka.topic = bench
a1.sinks.k.flumeBatchSize = 1000
a1.sinks.k.kafka.producer.acks = all
`
	toHDFS = `
a1.sinks.k.type = hdfs
a1.sinks.k.hdfs.path = hdfs://localhost:PORTDIR
a1.sinks.k.hdfs.fileType = DataStream
a1.sinks.k.hdfs.rollInterval = 0
a1.sinks.k.hdfs.rollSize = 0
a1.sinks.k.hdfs.rollCount = ROLL
a1.sinks.k.hdfs.batchSize = 1000
`
	toS3 = `
a1.sinks.k.type = s3
a1.sinks.k.s3.path = s3://benchDIR
a1.sinks.k.s3.endpoint = http://127.0.0.1:PORT
a1.sinks.k.s3.accessKeyId = testaccess
a1.sinks.k.s3.secretAccessKey = testsecret123
a1.sinks.k.s3.spoolDirectory = DIR/state/spool
a1.sinks.k.s3.rollInterval = 0
a1.sinks.k.s3.rollSize = 0
a1.sinks.k.s3.rollCount = ROLL
a1.sinks.k.s3.batchSize = 1000
`
)

const (
	batchLines = 1000 // of the bare loops, as of the sinks
	files      = 4    // that a sink makes
	blockSize  = 128 << 20
)

func (s *stage) storeRows() []row {
	few := &stage{dir: filepath.Join(s.dir, "stores"), bin: s.bin, events: min(s.events, 4_000_000) / files * files, peers: s.peers}
	kafka, hdfs, store := topics(s.server(few, "kafka.sh", 19300)), s.server(few, "hdfs.sh", 19320), s.server(few, "s3.sh", 19340)
	lib := filepath.Join(e2eHome(), "lib")
	rows := []row{
		{"tail to Kafka", few.size(), []contender{
			{"limit", "kafka-go's Writer, batches of 1000, acks of all", few.served(kafka, bareKafka)},
			{"millrace", "memory channel, idempotent, acks of all, counted", few.servedAgent(kafka, parts+inMemory+tail+toKafka)},
		}},
		{"tail to HDFS", few.size(), []contender{
			{"limit", "one file of the library, 1 MiB at a time", few.served(hdfs, bareHDFS)},
			{"millrace", "synced file channel, delivered when files are closed, counted", few.servedAgent(hdfs, parts+onDisk+tail+toHDFS)},
		}},
		{"tail to S3", few.size(), []contender{
			{"limit", "the SDK's multipart upload, parts of 8 MiB, one after the other", few.served(store, bareS3)},
			{"millrace", "synced file channel, synced spool, counted", few.servedAgent(store, parts+onDisk+tail+toS3)},
		}},
	}
	if s.peers && exists(filepath.Join(lib, "flume")) {
		rows[0].field = append(rows[0].field, contender{"flume", "memory channel, acks of all, counted", few.servedFlume(kafka, filepath.Join(lib, "flume"), parts+inMemory+tail+toKafka)})
		if exists(filepath.Join(lib, "hadoop")) {
			jars := filepath.Join(lib, "flume") + "/*:" + filepath.Join(lib, "hadoop")
			rows[1].field = append(rows[1].field, contender{"flume", "file channel, every put and take synced, counted", few.servedFlume(hdfs, jars, parts+onDisk+tail+toHDFS)})
		}
	}
	return rows
}

// server gives the port of a server of e2e/services, which it starts, and writes the input, when it is first asked.
func (s *stage) server(few *stage, script string, port int) func() (int, error) {
	run := func(args ...string) error {
		cmd := exec.Command("bash", append([]string{filepath.Join("e2e", "services", script)}, args...)...)
		cmd.Env = append(os.Environ(), "MILLRACE_E2E_RUN="+filepath.Join(s.dir, "services"), fmt.Sprint("HDFS_BLOCK=", blockSize))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", script, strings.Join(args, " "), err, out)
		}
		return nil
	}
	return sync.OnceValues(func() (int, error) {
		if err := os.MkdirAll(filepath.Join(s.dir, "services"), 0o755); err != nil {
			return 0, err
		}
		s.ends = append(s.ends, func() error { return run("stop-all") })
		if err := few.input(); err != nil {
			return 0, err
		}
		return port, run("start", "bench", fmt.Sprint(port))
	})
}

// topics makes the topics of the row, so that no contender waits for them.
func topics(server func() (int, error)) func() (int, error) {
	return sync.OnceValues(func() (int, error) {
		port, err := server()
		if err != nil {
			return 0, err
		}
		c, err := kafkago.Dial("tcp", fmt.Sprint("localhost:", port))
		if err != nil {
			return 0, err
		}
		defer c.Close()
		for _, name := range []string{"bare", "bench"} {
			if err := c.CreateTopics(kafkago.TopicConfig{Topic: name, NumPartitions: 3, ReplicationFactor: 1}); err != nil {
				return 0, err
			}
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			found, err := c.ReadPartitions("bare", "bench")
			led := err == nil && len(found) == 6
			for _, p := range found {
				led = led && p.Leader.Host != "" && p.Error == nil
			}
			if led {
				return port, nil
			}
			if time.Now().After(end) {
				return 0, fmt.Errorf("topics have no leaders: %w", err)
			}
		}
	})
}

// served runs a bare loop over the lines of the input.
func (s *stage) served(server func() (int, error), bare func(port int, lines *bufio.Reader) error) func() (figure, error) {
	return func() (figure, error) {
		port, err := server()
		if err != nil {
			return figure{}, err
		}
		return loop(func() error {
			f, err := os.Open(s.file())
			if err != nil {
				return err
			}
			defer f.Close()
			return bare(port, bufio.NewReaderSize(f, 1<<20))
		})
	}
}

// servedAgent runs Millrace; the server's port is PORT in conf.
func (s *stage) servedAgent(server func() (int, error), conf string) func() (figure, error) {
	return func() (figure, error) {
		port, err := server()
		if err != nil {
			return figure{}, err
		}
		// The last file ends with the last event.
		return s.agent(strings.NewReplacer("PORT", fmt.Sprint(port), "ROLL", fmt.Sprint(s.events/files)).Replace(conf), nil)()
	}
}

// servedFlume runs Flume on a tenth of the lines.
func (s *stage) servedFlume(server func() (int, error), jars, conf string) func() (figure, error) {
	return func() (figure, error) {
		port, err := server()
		if err != nil {
			return figure{}, err
		}
		return s.flume(jars, strings.NewReplacer("PORT", fmt.Sprint(port), "ROLL", fmt.Sprint(s.events/files)).Replace(conf))()
	}
}

func bareKafka(port int, lines *bufio.Reader) error {
	w := &kafkago.Writer{
		Addr: kafkago.TCP(fmt.Sprint("localhost:", port)), Topic: "bare", BatchSize: batchLines, BatchBytes: 8 << 20,
		BatchTimeout: time.Millisecond, RequiredAcks: kafkago.RequireAll, AllowAutoTopicCreation: true, MaxAttempts: 20,
	}
	defer w.Close()
	batch := make([]kafkago.Message, 0, batchLines)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && len(batch) == 0 {
			return nil
		}
		if err == nil {
			batch = append(batch, kafkago.Message{Value: line[:len(line)-1]})
		}
		if len(batch) == batchLines || err != nil {
			if err := w.WriteMessages(context.Background(), batch...); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
}

func bareHDFS(port int, lines *bufio.Reader) error {
	c, err := hadoop.New(fmt.Sprint("localhost:", port))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.Remove("/bare") // of the round before
	w, err := c.CreateFile("/bare", 1, blockSize, 0o644)
	if err != nil {
		return err
	}
	if _, err := lines.WriteTo(w); err != nil {
		return err
	}
	for {
		if err := w.Close(); !hadoop.IsErrReplicating(err) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func bareS3(port int, lines *bufio.Reader) error {
	ctx := context.Background()
	c := s3.New(s3.Options{
		BaseEndpoint: aws.String(fmt.Sprint("http://127.0.0.1:", port)), UsePathStyle: true, Region: "us-east-1",
		Credentials:                credentials.NewStaticCredentialsProvider("testaccess", "testsecret123", ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
	})
	bucket, key := aws.String("bench"), aws.String("bare")
	_, _ = c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}) // it may be there
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	if err != nil {
		return err
	}
	var done types.CompletedMultipartUpload
	part := make([]byte, 8<<20)
	for n := int32(1); ; n++ {
		k, err := io.ReadFull(lines, part)
		if k > 0 {
			res, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(part[:k])})
			if err != nil {
				return err
			}
			done.Parts = append(done.Parts, types.CompletedPart{PartNumber: aws.Int32(n), ETag: res.ETag, ChecksumCRC32: res.ChecksumCRC32})
		}
		if err != nil {
			break
		}
	}
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &done})
	return err
}
