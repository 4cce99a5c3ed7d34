package kafka

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// The check values of Java's hash.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]uint32{"21": 3321034988, "foobar": 3504634814, "k1": 1684045097} {
		if got := murmur2([]byte(key)); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

// What Java Flume wrote, recorded: its sink with useFlumeEventFormat and its channel.
func TestDatumIsFlumes(t *testing.T) {
	for _, file := range []string{"sink-useFlumeEventFormat", "channel"} {
		data, err := os.ReadFile("testdata/" + file + ".value.bin")
		if err != nil {
			t.Fatal(err)
		}
		headers, body, err := readDatum(data, nil)
		want := []core.Header{{Key: "host", Value: "web-0"}, {Key: "key", Value: "k0"}, {Key: "timestamp", Value: "1700000000000"}}
		if err != nil || string(body) != "line 0 世" || !slices.Equal(headers, want) {
			t.Errorf("%s: %v %q, %v", file, headers, body, err)
		}
		if again := appendDatum(nil, core.NewHeaders(headers...), body); !bytes.Equal(again, data) {
			t.Errorf("%s: written anew it is %x, was %x", file, again, data)
		}
	}
}

// The table of the format's specification.
func TestDatum(t *testing.T) {
	for _, c := range []struct{ headers, body, want string }{
		{"", "", "0000"},
		{"k=v", "hi", "02026b02760004 6869"},
		{"topic=t1 key=k1", "hello", "040a746f7069630474 31066b6579046b31000a68656c6c6f"},
		{"h=", "", "02026800 0000"},
		{"é=ü", "\x00\xff", "0204c3a904c3bc000400ff"},
		{"a=" + strings.Repeat("b", 64), "", "0202618001" + strings.Repeat("62", 64) + "0000"},
		{"", strings.Repeat("x", 300), "00d804" + strings.Repeat("78", 300)},
	} {
		var kv []core.Header
		for _, pair := range strings.Fields(c.headers) {
			k, v, _ := strings.Cut(pair, "=")
			kv = append(kv, core.Header{Key: k, Value: v})
		}
		got := appendDatum(nil, core.NewHeaders(kv...), []byte(c.body))
		if want := strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(got) != want {
			t.Errorf("%q: %x, want %s", c.headers, got, want)
		}
	}
	for _, c := range []struct {
		data string
		want string // headers and body, or part of the error
	}{
		{"0106 026b0276 00 0268", "[{k v}] h"}, // a count below 0, then the size of the block
		{"02 026b0276 02 026b0277 00 00", "[{k v} {k w}] "},
		{"00 02 68 ffff", "[] h"},
		{"", "ends too early"},
		{"00 04 68", "ends too early"},
		{"00 01", "ends too early"},
		{"02 ff", "ends too early"},
		{"feffffffffffffffff01", "headers"},
		{"ffffffffffffffffff0100", "headers"},
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(c.data, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		headers, body, err := readDatum(data, nil)
		got := fmt.Sprint(headers, " ", string(body))
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.data, got, c.want)
		}
	}
	if _, _, err := readDatum(nil, nil); !errors.Is(err, errNull) {
		t.Errorf("null: %v", err)
	}
}

// made is a batch of n records, and what is in it.
func made(t testing.TB, id, n int) (data []byte, want []string) {
	t.Helper()
	c, err := newCodec(id, 0)
	if err != nil {
		t.Fatal(err)
	}
	var e encoder
	e.begin()
	for i := range n {
		r := record{time: int64(1000 - i), value: fmt.Appendf(nil, "value %d", i), headers: []recordHeader{{"h", fmt.Sprint(i)}, {"", ""}}}
		if i%2 == 1 {
			r.key = []byte{}
		}
		e.add(&r)
		want = append(want, fmt.Sprintf("%d %d %v %q %q h=%d =", i, r.time, r.key == nil, r.key, r.value, i))
	}
	return e.finish(nil, c, producer{id: 7, epoch: 3}, 42), want
}

func read(b *batch) (got []string, err error) {
	u := newUnpacker()
	defer u.close()
	records := b.records
	if id := int(b.attributes & attrCodec); id != codecNone {
		if records, err = u.unpack(id, records); err != nil {
			return nil, err
		}
	}
	err = b.each(records, func(f *fetched) error {
		s := fmt.Sprintf("%d %d %v %q %q", f.offset, f.time, f.key == nil, f.key, f.value)
		for _, h := range f.headers {
			s += fmt.Sprintf(" %s=%s", h.key, h.value)
		}
		got = append(got, s)
		return nil
	})
	return got, err
}

// What is written is read, and its head is what another codec takes it for.
func TestBatch(t *testing.T) {
	for id, name := range codecNames {
		data, want := made(t, id, 1000)
		b, rest, err := cutBatch(append(slices.Clip(data), 1, 2, 3))
		if err != nil || len(rest) != 3 {
			t.Fatalf("%s: %v, %d bytes left", name, err, len(rest))
		}
		got, err := read(&b)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d records, %v", name, len(got), err)
		}
		var other kmsg.RecordBatch
		if err := other.ReadFrom(data); err != nil || other.ProducerID != 7 || other.ProducerEpoch != 3 || other.FirstSequence != 42 ||
			other.NumRecords != 1000 || other.LastOffsetDelta != 999 || other.FirstTimestamp != 1000 || other.MaxTimestamp != 1000 || int(other.Attributes) != id {
			t.Errorf("%s: %+v, %v", name, other, err)
		}
	}
}

// Every flipped bit of a batch is found, and every cut.
func TestBatchDamaged(t *testing.T) {
	data, _ := made(t, codecNone, 3)
	for bit := range len(data) * 8 {
		if i := bit / 8; i < 8 || i >= 12 && i < 16 {
			continue // the first offset and the leader's epoch are the broker's, and not in the checksum
		}
		bad := slices.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := cutBatch(bad); err == nil {
			t.Fatalf("bit %d flipped is not found", bit)
		}
	}
	for n := range data {
		if _, _, err := cutBatch(data[:n]); !errors.Is(err, errShort) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	old := slices.Clone(data)
	old[batchMagicAt] = 1
	if _, _, err := cutBatch(old); !errors.Is(err, errOld) {
		t.Errorf("%v", err)
	}
}

// What grows beyond all measure is not read.
func TestUnpackIsBounded(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for id := codecGzip; id <= codecZstd; id++ {
		c, err := newCodec(id, 0)
		if err != nil {
			t.Fatal(err)
		}
		packed := c.compress(nil, zeros)
		u := newUnpacker()
		if got, err := u.unpack(id, packed); err != nil || !bytes.Equal(got, zeros) {
			t.Errorf("%s: %v", codecNames[id], err)
		}
		u.close()
		u.limit = 1000
		if _, err := u.unpack(id, packed); err == nil {
			t.Errorf("%s: read beyond the limit", codecNames[id])
		}
		u.close()
	}
}

func TestJAAS(t *testing.T) {
	plain, scram, krb5, bearer := logins["PLAIN"], logins["SCRAM-SHA-512"], logins["GSSAPI"], logins["OAUTHBEARER"]
	for _, c := range []struct{ mechanism, text, want string }{
		{"PLAIN", plain + ` required username="alice" password="a \"b\" ;=";`, ""},
		{"SCRAM-SHA-512", "  " + scram + "\n required\n username='alice'\n password=secret ;", ""},
		{"SCRAM-SHA-256", scram + ` REQUIRED username = "alice" password="x";`, ""},
		{"PLAIN", scram + ` required username="alice" password="x";`, "wants"},
		{"PLAIN", plain + ` required username="alice" password="x"`, "semicolon"},
		{"PLAIN", plain + ` required username="alice;`, "does not end"},
		{"PLAIN", plain + ` username="alice" password="x";`, "flag"},
		{"PLAIN", plain + ` required username="alice" password;`, "key=value"},
		{"PLAIN", plain + ` required username="alice";`, "lacks"},
		{"PLAIN", ``, "not a login module"},
		{"GSSAPI", krb5 + ` required useKeyTab=true storeKey=true keyTab="/k" principal="flume/h@R" serviceName="kafka";`, ""},
		{"GSSAPI", `com.ibm.security.auth.module.Krb5LoginModule required keyTab="file:///k" principal="flume/h@R" serviceName="kafka";`, ""},
		{"GSSAPI", krb5 + ` required useTicketCache=true serviceName="kafka";`, ""},
		{"GSSAPI", krb5 + ` required keyTab="/k" principal="flume/h@R";`, "sasl.kerberos.service.name"},
		{"GSSAPI", krb5 + ` required principal="flume/h@R" serviceName="kafka";`, "lacks keyTab"},
		{"GSSAPI", krb5 + ` required keyTab="/k" serviceName="kafka";`, "lacks principal"},
		{"GSSAPI", plain + ` required username="alice" password="x";`, "wants com.sun.security.auth.module.Krb5LoginModule"},
		{"OAUTHBEARER", bearer + ` required unsecuredLoginStringClaim_sub="alice";`, ""},
		{"OAUTHBEARER", bearer + ` required ;`, "lacks unsecuredLoginStringClaim_sub"},
		{"OAUTHBEARER", bearer + ` required unsecuredLoginStringClaim_sub="alice" extension_auth="x";`, "not the name of an extension"},
	} {
		m, err := (&connection{mechanism: c.mechanism, jaas: c.text}).login()
		if c.want == "" && (err != nil || m.Name() != c.mechanism) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
	if _, o, err := readJAAS(plain + ` required username="alice" password="a \"b\" ;=";`); err != nil || o["password"] != `a "b" ;=` {
		t.Errorf("%q, %v", o, err)
	}
}

func TestTemplate(t *testing.T) {
	h := core.NewHeaders(core.Header{Key: "header1", Value: "test-avro-header"}, core.Header{Key: "timestamp", Value: "1700000000000"})
	for text, want := range map[string]string{
		"plain": "plain", "%{header1}-topic": "test-avro-header-topic", "a%{none}b": "ab", "%t": "1700000000000", "%s": "1700000000",
		"logs-%Y": "logs-2023", "100%%": "100%", "%q": "%q", "x%": "x%",
	} {
		tm, err := parseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := tm.of(h); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
	tm, err := parseTemplate("%Y")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tm.of(core.Headers{}); err == nil {
		t.Errorf("%q without a timestamp", got)
	}
	for _, text := range []string{"%{x", "%[x", "%{}", "%[nothing]"} {
		if _, err := parseTemplate(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func FuzzBatch(f *testing.F) {
	for id := range codecNames {
		data, _ := made(f, id, 3)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		u := newUnpacker()
		defer u.close()
		u.limit = 1 << 20
		// The checksum keeps most of a fuzzer's bytes out: it is made right.
		if len(data) > batchHead {
			data = slices.Clone(data)
			data[batchMagicAt] = 2
			binary.BigEndian.PutUint32(data[batchLengthAt:], uint32(len(data)-12))
			binary.BigEndian.PutUint32(data[batchCRCAt:], crc32.Checksum(data[batchAttrAt:], castagnoli))
		}
		b, _, err := cutBatch(data)
		if err != nil {
			return
		}
		records := b.records
		if id := int(b.attributes & attrCodec); id != codecNone {
			if records, err = u.unpack(id, records); err != nil {
				return
			}
		}
		last := b.base - 1
		_ = b.each(records, func(r *fetched) error {
			if r.offset < b.base || r.offset > b.last {
				t.Fatalf("offset %d is not in %d to %d", r.offset, b.base, b.last)
			}
			last = max(last, r.offset)
			return nil
		})
	})
}

func FuzzDatum(f *testing.F) {
	f.Add(appendDatum(nil, core.NewHeaders(core.Header{Key: "k", Value: "v"}), []byte("body")))
	f.Fuzz(func(t *testing.T, data []byte) {
		headers, body, err := readDatum(data, nil)
		if err != nil {
			return
		}
		h := core.NewHeaders(headers...)
		again, body2, err := readDatum(appendDatum(nil, h, body), nil)
		if err != nil || !bytes.Equal(body, body2) || len(again) != h.Len() {
			t.Fatalf("%x: %v", data, err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0}, int16(4))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 1}, 30), int16(11))
	f.Fuzz(func(_ *testing.T, data []byte, version int16) {
		_, _ = readFetched(data, version)
		_, _ = readProduced(data, version)
		_, _ = readTopics(data)
		_, _ = readOffsets(data)
		_ = readProgress(1, string(data))
	})
}

// What another member of the group says is not to be believed either.
func FuzzGroup(f *testing.F) {
	f.Add(appendSubscription(nil, []string{"a", "b"}))
	f.Add(appendAssignment(nil, map[string][]int{"t": {0, 2}}))
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 5}) // Java's, with what it owned
	f.Fuzz(func(t *testing.T, data []byte) {
		if topics, _, err := readSubscription(data); err == nil {
			if again, _, err := readSubscription(appendSubscription(nil, topics)); err != nil || !slices.Equal(again, topics) {
				t.Fatalf("%q became %q, %v", topics, again, err)
			}
		}
		if parts, err := readAssignment(data); err == nil {
			for name, list := range parts {
				for _, p := range list {
					if p < 0 {
						t.Fatalf("%s: partition %d", name, p)
					}
				}
			}
		}
	})
}

func FuzzJAAS(f *testing.F) {
	f.Add(`a.B required username="x" password='y';`)
	f.Fuzz(func(_ *testing.T, text string) { _, _, _ = readJAAS(text) })
}
