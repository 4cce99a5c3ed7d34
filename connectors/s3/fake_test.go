package s3

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// fake is a bucket in memory that speaks the protocol and keeps S3's rules: no
// object before its last request, If-None-Match, parts that must be known by
// their ETag and, but for the last, have a least size.
type fake struct {
	mu      sync.Mutex
	objects map[string][]byte
	uploads map[string]*fakeUpload // by id
	made    int
	least   int             // bytes of a part
	asked   map[string]int  // requests by name
	headers []http.Header   // of the requests that begin an object
	lengths map[string]bool // sizes of parts, all but last ones

	// before is asked at each request; it answers for the store, or kills it
	// after it did what it was asked.
	before func(op, key string) verdict
	// simple: a store without conditional writes.
	simple bool
}

type fakeUpload struct {
	key   string
	parts map[int][]byte
}

type verdict int

const (
	serve verdict = iota
	fail500
	slowDown
	hang    // until the request is given up
	deaf    // done, but the answer gets lost
	denied  // 403
	refused // 400 of a kind that never changes
	noUpload
)

func newFake() *fake {
	return &fake{objects: map[string][]byte{}, uploads: map[string]*fakeUpload{}, least: 1, asked: map[string]int{}, lengths: map[string]bool{}}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[op]
}

// breakAll makes every request fail in one way; serve: none.
func (f *fake) breakAll(v verdict) {
	f.set(func() { f.before = func(string, string) verdict { return v } })
}

var errCut = errors.New("connection was cut")

// Do implements doer.
func (f *fake) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	op := operation(r)
	f.mu.Lock()
	before := f.before
	f.asked[op]++
	f.mu.Unlock()
	v := serve
	if before != nil {
		v = before(op, key)
	}
	switch v {
	case fail500:
		return answer(500, "InternalError"), nil
	case slowDown:
		return answer(503, "SlowDown"), nil
	case denied:
		return answer(403, "AccessDenied"), nil
	case refused:
		return answer(400, "KeyTooLongError"), nil
	case noUpload:
		return answer(404, "NoSuchUpload"), nil
	case hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if bucket != "b" {
		return answer(404, "NoSuchBucket"), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.serve(op, key, r, body)
	if v == deaf {
		return nil, errCut
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return a, nil
}

func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "create"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "part"
	case r.Method == http.MethodPost:
		return "complete"
	case r.Method == http.MethodDelete:
		return "abort"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "uploads"
	case r.Method == http.MethodGet:
		return "parts"
	case r.Method == http.MethodHead:
		return "head"
	}
	return "put"
}

func answer(status int, code string) *http.Response {
	return page(status, "<Error><Code>"+code+"</Code><Message>as the test wants it</Message></Error>")
}

func page(status int, text string) *http.Response {
	h := http.Header{"Content-Type": {"application/xml"}}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}
}

func etag(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (f *fake) serve(op, key string, r *http.Request, body []byte) *http.Response {
	q := r.URL.Query()
	up := f.uploads[q.Get("uploadId")]
	if q.Has("uploadId") && (up == nil || up.key != key) {
		return answer(404, "NoSuchUpload")
	}
	if r.Header.Get("If-None-Match") != "" {
		if f.simple {
			return answer(501, "NotImplemented")
		}
		if _, there := f.objects[key]; there {
			return answer(412, "PreconditionFailed")
		}
	}
	switch op {
	case "put":
		f.objects[key] = body
		f.headers = append(f.headers, r.Header)
	case "create":
		f.made++
		id := fmt.Sprint("upload", f.made)
		f.uploads[id] = &fakeUpload{key, map[int][]byte{}}
		f.headers = append(f.headers, r.Header)
		return page(200, "<InitiateMultipartUploadResult><UploadId>"+id+"</UploadId></InitiateMultipartUploadResult>")
	case "part":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		up.parts[n] = body
		a := page(200, "")
		a.Header.Set("ETag", etag(body))
		return a
	case "abort":
		delete(f.uploads, q.Get("uploadId"))
		return page(204, "")
	case "complete":
		return f.complete(key, q.Get("uploadId"), up, body)
	case "parts":
		var b strings.Builder
		b.WriteString("<ListPartsResult>")
		for _, n := range slices.Sorted(maps.Keys(up.parts)) {
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><Size>%d</Size></Part>", n, etag(up.parts[n]), len(up.parts[n]))
		}
		return page(200, b.String()+"</ListPartsResult>")
	case "uploads":
		var b strings.Builder
		b.WriteString("<ListMultipartUploadsResult>")
		for _, id := range slices.Sorted(maps.Keys(f.uploads)) {
			if strings.HasPrefix(f.uploads[id].key, q.Get("prefix")) {
				fmt.Fprintf(&b, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", f.uploads[id].key, id)
			}
		}
		return page(200, b.String()+"</ListMultipartUploadsResult>")
	case "head":
		o, there := f.objects[key]
		if !there {
			return page(404, "")
		}
		a := page(200, "")
		a.Header.Set("Content-Length", strconv.Itoa(len(o)))
		return a
	}
	return page(200, "")
}

func (f *fake) complete(key, id string, up *fakeUpload, body []byte) *http.Response {
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &list); err != nil || len(list.Part) == 0 {
		return answer(400, "MalformedXML")
	}
	var all bytes.Buffer
	for i, p := range list.Part {
		b, there := up.parts[p.PartNumber]
		switch {
		case !there || etag(b) != p.ETag:
			return answer(400, "InvalidPart")
		case p.PartNumber != i+1: // as directory buckets have it
			return answer(400, "InvalidPartOrder")
		case i < len(list.Part)-1 && len(b) < f.least:
			return answer(400, "EntityTooSmall")
		case i < len(list.Part)-1:
			f.lengths[fmt.Sprint(len(b))] = true
		}
		all.Write(b)
	}
	f.objects[key] = all.Bytes()
	delete(f.uploads, id)
	return page(200, "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>")
}

// keys are those of all objects, without number and id, in order of their numbers.
func (f *fake) keys() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.objects), func(a, b string) int {
		return cmp.Or(cmp.Compare(number(a), number(b)), strings.Compare(a, b))
	})
}

// number is that in a key: what is between the last dot before the id, and that.
func number(key string) int64 {
	head, _, _ := strings.Cut(key, "-")
	n, _ := strconv.ParseInt(head[strings.LastIndexByte(head, '.')+1:], 10, 64)
	return n
}

func (f *fake) content(key string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.objects[key])
}

// lines are those of all objects, in order.
func (f *fake) lines() (all []string) {
	for _, k := range f.keys() {
		all = append(all, lines(f.content(k))...)
	}
	return all
}

func lines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}
