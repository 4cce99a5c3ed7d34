package kafka

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/sasl"
)

// oauth is the login by a token: SASL OAUTHBEARER (RFC 7628), with extensions as of KIP-342.
type oauth struct {
	endpoint           string // where tokens come from: http, https or file; empty: the token is made here, unsigned
	id, secret, scope  string // of the client, for the endpoint
	claims, extensions map[string]string
	lifetime           time.Duration // of an unsigned token
	now                func() time.Time

	mu    sync.Mutex
	token string
	until time.Time // it is good for; it is fetched anew a little before
}

// maxToken is how many bytes the answer of an endpoint, or a file, may have.
const maxToken = 1 << 20

// Name implements sasl.Mechanism.
func (o *oauth) Name() string { return "OAUTHBEARER" }

// Start implements sasl.Mechanism: it sends all there is to say.
func (o *oauth) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := o.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "n,,\x01auth=Bearer %s\x01", token)
	for _, name := range slices.Sorted(maps.Keys(o.extensions)) {
		fmt.Fprintf(&b, "%s=%s\x01", name, o.extensions[name])
	}
	b.WriteByte(1)
	return oauthSession{}, []byte(b.String()), nil
}

// oauthSession is one login; it has said all.
type oauthSession struct{}

// Next implements sasl.StateMachine: an answer that is not empty says why the token is not taken.
func (oauthSession) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	if len(challenge) > 0 {
		return false, nil, fmt.Errorf("the token is not taken: %.300q", challenge)
	}
	return true, nil, nil
}

// get returns a token that is good.
func (o *oauth) get(ctx context.Context) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.token != "" && o.now().Before(o.until) {
		return o.token, nil
	}
	var err error
	var lifetime time.Duration
	file, isFile := strings.CutPrefix(o.endpoint, "file://")
	switch {
	case o.endpoint == "":
		o.token, err = o.unsigned()
	case isFile: // read each time: who writes it may have renewed it
		o.token, err = readToken(file)
	default:
		o.token, lifetime, err = o.fetch(ctx)
	}
	o.until = o.now().Add(lifetime * 8 / 10)
	return o.token, err
}

func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, "\x01 \r\n") {
		return "", fmt.Errorf("%s holds no token", file)
	}
	return token, nil
}

// fetch asks the endpoint by the grant of client credentials (RFC 6749, section 4.4).
func (o *oauth) fetch(ctx context.Context) (token string, lifetime time.Duration, err error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if o.scope != "" {
		form.Set("scope", o.scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.SetBasicAuth(url.QueryEscape(o.id), url.QueryEscape(o.secret))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, fmt.Errorf("get a token: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxToken))
	if err != nil {
		return "", 0, fmt.Errorf("get a token: %w", err)
	}
	return parseToken(res.StatusCode, text)
}

// parseToken reads the answer of an endpoint.
func parseToken(status int, text []byte) (token string, lifetime time.Duration, err error) {
	var answer struct {
		Token   string  `json:"access_token"`
		Expires float64 `json:"expires_in"` // seconds
		Error   string  `json:"error"`
		Why     string  `json:"error_description"`
	}
	err = json.Unmarshal(text, &answer)
	switch {
	case status != http.StatusOK:
		return "", 0, fmt.Errorf("get a token: status %d %s %s", status, answer.Error, answer.Why)
	case err != nil:
		return "", 0, fmt.Errorf("get a token: the answer: %w", err)
	case answer.Token == "" || strings.ContainsRune(answer.Token, 1):
		return "", 0, errors.New("get a token: the answer has no access_token")
	}
	const day = 24 * 60 * 60
	return answer.Token, time.Duration(min(max(answer.Expires, 0), day) * float64(time.Second)), nil
}

// unsigned makes a token that nobody vouches for, as Java's client does for tests: RFC 7515, appendix A.5.
func (o *oauth) unsigned() (string, error) {
	now := o.now()
	claims := map[string]any{"iat": now.Unix(), "exp": now.Add(o.lifetime).Unix()}
	for name, value := range o.claims {
		claims[name] = value
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	code := base64.RawURLEncoding.EncodeToString
	return code([]byte(`{"alg":"none"}`)) + "." + code(text) + ".", nil
}
