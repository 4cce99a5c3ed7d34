package s3

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

func TestSuite(t *testing.T) {
	for name, kv := range map[string]string{
		"one object":    "",
		"rolls":         "rollCount=7 threadsPoolSize=1",
		"large parts":   "partSize=6m",
		"commits":       "commitInterval=1 callTimeout=0",
		"one open":      "maxOpenFiles=1 rollCount=40",
		"by local time": "path=s3://b/events/%Y/%H useLocalTimeStamp=true",
		"no header":     "path=events/%Y/%H",
		"header's path": "path=/events/%{none}/",
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			sinktest.Run(t, sinktest.Subject{
				New: func() core.Sink {
					r = newRig()
					return r.newSink()
				},
				Backend: func(tb testing.TB) sinktest.Backend { return r.subject(kv, nil).Backend(tb) },
			})
		})
	}
}

func TestNames(t *testing.T) {
	for kv, want := range map[string]string{
		"":                                         "e/FlumeData.1382534100001-",
		"path=s3a://b/x/%{n}/ bucket=":             "x/a/FlumeData.1382534100001-",
		"path=/x//%{n}/../%{none}":                 "x/a/__/FlumeData.1382534100001-",
		"filePrefix=p/%{n} fileSuffix=.log":        "e/p/a.1382534100001-.log",
		"fileType=CompressedStream codeC=gzip":     "e/FlumeData.1382534100001-.gz",
		"fileType=SequenceFile codeC=zstd":         "e/FlumeData.1382534100001-.zst",
		"path=%Y-%m-%d/%H:%M useLocalTimeStamp=on": "2013-10-23/13:15/FlumeData.1382534100001-",
	} {
		r := newRig()
		in := r.open(t, kv)
		in.Deliver([]string{"x"})
		in.Close()
		k := r.keys()
		if len(k) != 1 {
			t.Fatalf("%s: %q", kv, k)
		}
		at := strings.LastIndexByte(k[0], '-') + 1
		if got := k[0][:at] + k[0][at+8:]; got != want {
			t.Errorf("%s: %s, want %s", kv, got, want)
		}
	}
}

func TestRolls(t *testing.T) {
	for _, c := range []struct {
		kv      string
		objects int
	}{
		{"rollCount=10", 100},
		{"rollCount=300", 4},
		{"rollCount=2000", 1},
		{"rollSize=900", 10}, // nine bytes each
	} {
		r := newRig()
		in := r.open(t, c.kv)
		var bodies []string
		for i := range 1000 {
			bodies = append(bodies, fmt.Sprintf("event%04d", i))
		}
		for b := range slices.Chunk(bodies, 100) {
			in.Deliver(b)
		}
		in.Close()
		if got := len(r.keys()); got != c.objects || !slices.Equal(r.lines(), bodies) {
			t.Errorf("%s: %d objects, want %d", c.kv, got, c.objects)
		}
		if len(r.lengths) > 0 && !r.lengths["64"] || len(r.lengths) > 1 {
			t.Errorf("%s: parts of %v bytes, all but the last must have the same", c.kv, r.lengths)
		}
		r.idle(t)
	}
}

// Each header of an object's first request is as configured.
func TestObjectKeys(t *testing.T) {
	const kv = "serverSideEncryption=AWS:KMS kmsKeyId=k1 storageClass=STANDARD_IA acl=bucket-owner-full-control expectedBucketOwner=111122223333 contentType=text/plain checksum=crc32c"
	for _, n := range []int{1, 100} {
		r := newRig()
		in := r.open(t, kv)
		in.Deliver(suite.Bodies(0, n))
		in.Close()
		if len(r.headers) != 1 {
			t.Fatalf("%d objects begun", len(r.headers))
		}
		for k, want := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "k1", "X-Amz-Storage-Class": "STANDARD_IA",
			"X-Amz-Acl": "bucket-owner-full-control", "X-Amz-Expected-Bucket-Owner": "111122223333", "Content-Type": "text/plain",
		} {
			if got := r.headers[0].Get(k); got != want {
				t.Errorf("%d events: %s: %q, want %q", n, k, got, want)
			}
		}
		checksum := r.headers[0].Get("X-Amz-Checksum-Crc32c") + r.headers[0].Get("X-Amz-Checksum-Algorithm")
		if checksum == "" {
			t.Errorf("%d events: no checksum: %v", n, r.headers[0])
		}
	}
	r := newRig() // a store that is not Amazon's is sent none
	in := r.open(t, "")
	in.Deliver([]string{"a"})
	in.Close()
	for k := range r.headers[0] {
		if strings.Contains(strings.ToLower(k), "checksum") {
			t.Errorf("sent %s", k)
		}
	}
}

func TestClock(t *testing.T) {
	for _, kv := range []string{"rollInterval=10", "idleTimeout=10"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig()
			in := r.open(t, kv)
			in.Deliver([]string{"a"})
			time.Sleep(6 * time.Second)
			in.Deliver([]string{"b"})
			time.Sleep(5 * time.Second)
			if rolled := len(r.keys()) == 1; rolled != (kv == "rollInterval=10") {
				t.Errorf("%s: after 11 s: %q", kv, r.keys())
			}
			time.Sleep(6 * time.Second)
			in.Deliver([]string{"c"})
			in.Close()
			r.expect(t, "e/FlumeData.1382534100001 a b", "e/FlumeData.1382534100002 c")
			r.idle(t)
		})
	}
}

// Events do not wait for the end of their object.
func TestCommitInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		in := r.open(t, "commitInterval=5000")
		tx := in.Deliver([]string{"a", "b"})
		time.Sleep(4 * time.Second)
		if _, _, ended := tx.Acked(); ended {
			t.Error("acked before the commit point")
		}
		time.Sleep(2 * time.Second)
		if _, rolled, ended := tx.Acked(); !ended || rolled != nil {
			t.Error("not acked at the commit point")
		}
		in.Close()
		r.expect(t, "e/FlumeData.1382534100001 a b")
	})
}

// deliver hands over events with a header a of these values, and their index as body.
func deliver(in *sinktest.Instance, values ...string) *sinktest.Loose {
	b := core.NewBatch()
	for i, v := range values {
		b.Copy(core.NewHeaders(core.Header{Key: "a", Value: v}), fmt.Appendf(nil, "%d", i))
	}
	x := &sinktest.Loose{Events: b}
	in.Sink.Deliver(context.Background(), x)
	return x
}

func TestMaxOpenFiles(t *testing.T) {
	r := newRig()
	in := r.open(t, "path=%{a} maxOpenFiles=2")
	deliver(in, "1", "2", "1", "3", "1", "2")
	in.Close()
	got := r.lines()
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) || len(r.keys()) < 4 {
		t.Errorf("%q in %q", got, r.keys())
	}
	r.idle(t)
}

// An event that can have no key is refused, and those around it are delivered.
func TestKeyTooLong(t *testing.T) {
	r := newRig()
	in := r.open(t, "path=%{a}")
	long := strings.Repeat("x", 1024)
	x := deliver(in, "1", long, "1", long)
	in.Close()
	if !slices.Equal(x.Refused, []int{1, 3}) || !slices.Equal(x.Acked, []int32{0, 2}) || x.Cause != nil {
		t.Errorf("refused %v, acked %v, %v", x.Refused, x.Acked, x.Cause)
	}
	x = deliver(r.open(t, "path=%{a}"), long)
	if len(x.Refused) != 1 || x.Cause != nil {
		t.Errorf("alone: refused %v, %v", x.Refused, x.Cause)
	}
}

func TestKeys(t *testing.T) {
	for kv, want := range map[string]string{
		"bucket=":           "s3.bucket: is missing",
		"path=s3://other/x": `s3.bucket: "b" is not the bucket of s3.path, "other"`,
		"path=gs://b/x":     "must be a path, or s3://bucket/path",
		"path=s3://%{x}/y":  "a sink writes to one bucket",
		"fileSuffix=a/b":    "s3.fileSuffix: \"a/b\" is not a part of a name",
		"partSize=1m":       "s3.partSize",
		"endpoint=ftp://x":  "must be an http or https URL",
		"secretAccessKey=":  "s3.accessKeyId: goes with s3.secretAccessKey",
		"kmsKeyId=k":        "s3.kmsKeyId: goes with",
		"accessKeyId= secretAccessKey= roleArn=arn:x": "s3.roleArn: needs s3.webIdentityTokenFile",
		"profile=p":                 "s3.profile: has no effect with s3.accessKeyId",
		"fileType=CompressedStream": "CompressedStream needs s3.codeC",
		"roundValue=7":              "has no effect without s3.round = true",
	} {
		if _, faults := bind(kv); !strings.Contains(fmt.Sprint(faults), want) || strings.Contains(fmt.Sprint(faults), "secret\"") {
			t.Errorf("%s: %v, want %s", kv, faults, want)
		}
	}
	if s, faults := bind("endpoint="); faults.HasErrors() || s.object.algorithm != "CRC32" || s.access.pathStyle {
		t.Errorf("Amazon's: %v", faults)
	}
}
