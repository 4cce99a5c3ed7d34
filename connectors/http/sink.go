package http

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "http", Doc: "Sends events in HTTP requests: one each, or in batches that Elasticsearch, OpenSearch, Loki, VictoriaLogs and others take.",
	Aliases: []string{"org.apache.flume.sink.http.HttpSink"},
	New:     func() core.Sink { return new(sink) },
}

type sink struct {
	endpoint            string
	connect, timeout    time.Duration
	contentType, accept string
	rules               rules

	batch, concurrency int
	linger             time.Duration
	format             string
	doc                document
	bulk               bulk
	loki               loki

	method, compression string
	headers             map[string]string
	user, password      string
	token               string
	maxRequest          int64
	maxAnswer           int64
	maxWait             time.Duration
	attempts            int
	tls                 tlsconf.Client

	env       core.Env
	url       *url.URL
	header    http.Header // of every request; never changed once it is made
	host      string
	what      string // method and URL, for errors
	transport *http.Transport
	lanes     chan *lane // those that are free
	closing   context.Context
	cut       context.CancelFunc // ends what is in flight
	notBefore atomic.Int64       // epoch ns: the far end asked not to be asked again before
	waits     sample.Log
	poison    *poison

	requests, failed, empty, mangled *metric.Extra
}

// The formats, as the key names them.
const (
	formatBody      = "body"
	formatLines     = "lines"
	formatJSONLines = "json_lines"
	formatJSONArray = "json_array"
	formatFlume     = "flume_json"
	formatBulk      = "elasticsearch_bulk"
	formatLoki      = "loki"
)

// mediaTypes are the contentTypeHeader of each format where the key is not set.
var mediaTypes = map[string]string{
	formatBody: "text/plain", formatLines: "text/plain", formatJSONLines: "application/x-ndjson", formatJSONArray: "application/json",
	formatFlume: "application/json", formatBulk: "application/x-ndjson", formatLoki: "application/json",
}

const gzipped = "gzip"

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	k.String(&s.endpoint, "endpoint", "", "URL to send to, http or https.").Required()
	k.Millis(&s.connect, "connectTimeout", 5*time.Second, "How long a connection may take to be made.").Must(conf.Min(1))
	k.Millis(&s.timeout, "requestTimeout", 5*time.Second, "How long a request may take, answer included, beside connectTimeout.").Must(conf.Min(1))
	k.String(&s.contentType, "contentTypeHeader", mediaTypes[formatBody], "Content-Type of requests; absent, formats of JSON have their own.")
	k.String(&s.accept, "acceptHeader", "text/plain", "Accept of requests; absent, it is application/json with elasticsearch_bulk.")
	s.rules.keys(k)

	k.Batch(&s.batch, "batchSize", 1, "Events taken in one transaction; all formats but body send them in one request.").Since("1.0")
	k.Linger(&s.linger, "batchTimeout", "How long to wait for a batch to fill after its first event; 0: what is there is sent.").Since("1.0")
	k.String(&s.format, "format", formatBody,
		"What a request holds. body: the body of one event; lines: bodies, each ended by a newline; json_lines, json_array: documents, see document; "+
			"flume_json: what Flume's http source takes; elasticsearch_bulk: documents for _bulk; loki: a push to Loki.").
		Must(conf.OneOf(formatBody, formatLines, formatJSONLines, formatJSONArray, formatFlume, formatBulk, formatLoki)).Since("1.0")
	s.doc.keys(k)
	s.bulk.keys(k)
	s.loki.keys(k)

	k.String(&s.method, "method", http.MethodPost, "Method of requests.").Must(conf.OneOf(http.MethodPost, http.MethodPut, http.MethodPatch)).Since("1.0")
	k.Map(&s.headers, "headers.", "A header field of every request.").As("headers.<name>").Secret().Since("1.0")
	k.String(&s.user, "username", "", "User of basic authentication.").Since("1.0")
	k.String(&s.password, "password", "", "Password of the user.").Secret().Since("1.0")
	k.String(&s.token, "bearerToken", "", "Token to send (Authorization: Bearer).").Secret().Since("1.0")
	k.String(&s.compression, "compression", "none", "Compression of requests.").Must(conf.OneOf("none", gzipped)).Since("1.0")
	k.Int(&s.concurrency, "concurrency", 1, "Requests in flight at once. With more than one the order of events is not kept.").Must(conf.Range(1, 256)).Since("1.0")
	k.Bytes(&s.maxRequest, "maxRequestBytes", 4<<20, "Longest request before compression; a batch that is longer is sent in several. One event alone may be longer.").Must(conf.Min(1)).Since("1.0")
	k.Bytes(&s.maxAnswer, "maxResponseBytes", 16<<20, "Longest answer to elasticsearch_bulk that is read; of others only the beginning is.").Must(conf.Min(1024)).Since("1.0")
	k.Millis(&s.maxWait, "maxRetryAfter", 5*time.Minute, "Longest time that a Retry-After of the far end is heeded; 0: it is not.").Must(conf.Min(0)).Since("1.0")
	k.Int(&s.attempts, "maxAttempts", 0,
		"How often a request is answered 5xx, other than 502 to 504, before an event in it is taken to be the cause: the request is halved until that event is alone, and it is refused. 0: all is sent again for ever.").
		Must(conf.Min(0)).Since("1.0")
	tlsconf.HTTPSKeys(k, &s.tls)
	k.Check(s.check)
}

// check is the checks across keys.
func (s *sink) check(r *conf.Report) {
	s.checkEndpoint(r)
	if !r.IsSet("contentTypeHeader") {
		s.contentType = mediaTypes[s.format]
	}
	if !r.IsSet("acceptHeader") && s.format == formatBulk {
		s.accept = "application/json"
	}
	s.rules.check(r)
	s.doc.check(r, s.format)
	s.bulk.check(r, s.format, s.url)
	s.loki.check(r, s.format)
	for name, value := range s.headers {
		if why := badField(name, value); why != "" {
			r.Error("headers."+name, "%s", why)
		}
	}
	for _, kv := range [][2]string{{"contentTypeHeader", s.contentType}, {"acceptHeader", s.accept}, {"bearerToken", s.token}} {
		if !fieldValue(kv[1]) {
			r.Error(kv[0], "has a character that no header field may have")
		}
	}
	switch {
	case s.token != "" && s.user != "":
		r.Error("bearerToken", "and username are both set: a request has one Authorization")
	case s.password != "" && s.user == "":
		r.Error("password", "has no username beside it")
	case strings.Contains(s.user, ":"):
		r.Error("username", "may not have a colon: the password would begin there")
	}
	if r.IsSet("maxResponseBytes") && s.format != formatBulk {
		r.Warn("maxResponseBytes", "has no effect with format %s", s.format)
	}
}

func (s *sink) checkEndpoint(r *conf.Report) {
	u, err := url.Parse(s.endpoint)
	switch {
	case err != nil:
		r.Error("endpoint", "is not a URL: %v", err)
		u = new(url.URL)
	case u.Scheme != "http" && u.Scheme != "https":
		r.Error("endpoint", "%q is not a URL that begins with http:// or https://", s.endpoint)
	case u.Hostname() == "":
		r.Error("endpoint", "%q has no host", s.endpoint)
	case u.User != nil && s.user == "" && s.token == "":
		r.Warn("endpoint", "has a user, and is shown in logs: write username and password")
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
	}
	u.User, u.Fragment = nil, ""
	s.url = u
	secure := u.Scheme == "https"
	s.tls.HTTPS(r, secure)
	if s.user+s.token != "" && !secure && !loopback(u.Hostname()) {
		r.Warn(cmp.Or(map[bool]string{true: "bearerToken"}[s.token != ""], "username"), "without https passwords and tokens travel in clear text")
	}
}

// reserved are header fields that are not free to choose, and what to do instead.
var reserved = map[string]string{
	"Content-Type": "use contentTypeHeader", "Accept": "use acceptHeader", "Content-Encoding": "use compression",
	"Content-Length": "it is what it is", "Transfer-Encoding": "requests have a length", "Connection": "connections are kept open",
}

// badField says what is wrong with a header field, if anything.
func badField(name, value string) string {
	if name == "" || strings.Trim(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "is not the name of a header field"
	}
	if instead, ok := reserved[http.CanonicalHeaderKey(name)]; ok {
		return "can not be set here: " + instead
	}
	if !fieldValue(value) {
		return "has a character that no header field may have"
	}
	return ""
}

// fieldValue reports whether a text may be a value of a header field.
func fieldValue(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Open implements core.Component. The far end need not be there yet.
func (s *sink) Open(_ context.Context, env core.Env) error {
	secure, err := s.tls.Client(env)
	if err != nil {
		return err
	}
	shown := *s.url
	shown.RawQuery = "" // there may be a token in it
	s.env, s.what = env, s.method+" "+shown.String()
	s.requests = env.Metrics.Counter("requests_total", "Requests sent.")
	s.failed = env.Metrics.Counter("requests_failed_total", "Requests with an answer other than 2xx, or with none.")
	s.empty = env.Metrics.Counter("events_empty_total", "Events without a body, which formats body and lines do not send.")
	s.mangled = env.Metrics.Counter("bodies_not_utf8_total", "Bodies that were not UTF-8; in JSON, each byte that is not became U+FFFD.")
	s.transport, s.poison = newTransport(s, secure), newPoison()
	s.makeHeader()
	s.closing, s.cut = context.WithCancel(context.Background())
	s.lanes = make(chan *lane, s.concurrency)
	for range s.concurrency {
		s.lanes <- &lane{s: s}
	}
	return nil
}

// makeHeader makes what all requests have in common.
func (s *sink) makeHeader() {
	s.header = http.Header{"Content-Type": {s.contentType}, "Accept": {s.accept}, "User-Agent": {"millrace"}}
	for name, value := range s.headers {
		if strings.EqualFold(name, "Host") {
			s.host = value
			continue
		}
		s.header.Set(name, value)
	}
	if s.compression == gzipped {
		s.header.Set("Content-Encoding", gzipped)
	}
	switch {
	case s.token != "":
		s.header.Set("Authorization", "Bearer "+s.token)
	case s.user != "":
		r := http.Request{Header: s.header}
		r.SetBasicAuth(s.user, s.password)
	}
}

// Deliver implements core.Sink. It waits for a free lane; with one lane it also
// waits for the answers, which is what keeps the order.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	var l *lane
	select {
	case l = <-s.lanes:
	case <-ctx.Done():
		tx.Rollback(ctx.Err())
		return
	}
	if s.concurrency == 1 {
		l.deliver(ctx, tx)
		s.lanes <- l
		return
	}
	go func() {
		l.deliver(ctx, tx)
		s.lanes <- l
	}()
}

// Flush implements core.Sink: it waits until nothing is in flight.
func (s *sink) Flush(ctx context.Context) error {
	for range s.concurrency {
		select {
		case l := <-s.lanes:
			defer func() { s.lanes <- l }() // once all are here
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close implements core.Sink: what is in flight at the end of ctx is cut off and rolled back.
func (s *sink) Close(ctx context.Context) error {
	if s.Flush(ctx) != nil {
		s.cut()
		_ = s.Flush(context.WithoutCancel(ctx)) // ends as soon as the requests have noticed
	}
	s.cut()
	s.transport.CloseIdleConnections()
	return nil
}
