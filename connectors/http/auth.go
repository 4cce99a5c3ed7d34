package http

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
)

// gate knows who may send. All secrets are kept as digests, and all are
// compared every time, so that the time taken tells nothing about them.
type gate struct {
	basic, bearer [][sha256.Size]byte
}

// newGate returns nil if everybody may send.
func newGate(users map[string]string, tokens []string) *gate {
	if len(users)+len(tokens) == 0 {
		return nil
	}
	g := new(gate)
	for name, password := range users {
		g.basic = append(g.basic, sha256.Sum256([]byte(name+":"+password)))
	}
	for _, t := range tokens {
		g.bearer = append(g.bearer, sha256.Sum256([]byte(t)))
	}
	return g
}

// opens reports whether an Authorization header is good.
func (g *gate) opens(authorization string) bool {
	scheme, secret, _ := strings.Cut(authorization, " ")
	secret = strings.TrimSpace(secret)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return among(g.bearer, []byte(secret))
	case strings.EqualFold(scheme, "Basic"):
		pair, err := base64.StdEncoding.DecodeString(secret)
		return err == nil && among(g.basic, pair)
	}
	return false
}

func among(digests [][sha256.Size]byte, secret []byte) bool {
	digest, found := sha256.Sum256(secret), 0
	for i := range digests {
		found |= subtle.ConstantTimeCompare(digests[i][:], digest[:])
	}
	return found == 1
}

// challenge says which schemes there are.
func (g *gate) challenge(h http.Header) {
	if len(g.basic) > 0 {
		h.Add("WWW-Authenticate", `Basic realm="millrace", charset="UTF-8"`)
	}
	if len(g.bearer) > 0 {
		h.Add("WWW-Authenticate", `Bearer realm="millrace"`)
	}
}
