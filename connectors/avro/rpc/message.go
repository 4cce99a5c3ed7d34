package rpc

import (
	"errors"
	"fmt"
)

// Status is the answer to a request.
type Status int

// The answers, by their place in the enum.
const (
	OK Status = iota
	Failed
	Unknown
)

var statusNames = [...]string{"OK", "FAILED", "UNKNOWN"}

func (s Status) Error() string { return "the far end answers " + statusNames[s] }

// RemoteError is an error that the far end answers in words.
type RemoteError string

func (e RemoteError) Error() string { return "the far end answers: " + string(e) }

// The matches of a handshake.
const (
	matchBoth = iota
	matchClient
	matchNone
)

// orderedKey in the metadata of both handshakes: see the package documentation.
const orderedKey = "millrace.ordered"

// hello is a client's handshake.
type hello struct {
	client, server Hash
	text           []byte // the client's protocol; nil: the hash must do
	ordered        bool
}

func readHash(in []byte) (h Hash, rest []byte, err error) {
	if len(in) < len(h) {
		return h, nil, malformed("a handshake is too short")
	}
	return Hash(in[:len(h)]), in[len(h):], nil
}

// branch reads which of null and something follows.
func branch(in []byte) (there bool, rest []byte, err error) {
	n, in, err := long(in)
	if err == nil && n != 0 && n != 1 {
		err = malformed("a handshake has a branch that there is not")
	}
	return n == 1, in, err
}

func readMeta(in []byte) (ordered bool, rest []byte, err error) {
	there, in, err := branch(in)
	if err == nil && there {
		in, err = skipMap(in, func(key, _ []byte) { ordered = ordered || string(key) == orderedKey })
	}
	return ordered, in, err
}

func readHello(in []byte) (h hello, rest []byte, err error) {
	if h.client, in, err = readHash(in); err != nil {
		return h, nil, err
	}
	there, in, err := branch(in)
	if err == nil && there {
		h.text, in, err = blob(in)
	}
	if err != nil {
		return h, nil, err
	}
	if h.server, in, err = readHash(in); err != nil {
		return h, nil, err
	}
	h.ordered, rest, err = readMeta(in)
	return h, rest, err
}

func appendHello(dst []byte, h hello) []byte {
	dst = append(dst, h.client[:]...)
	if h.text == nil {
		dst = append(dst, 0)
	} else {
		dst = appendText(append(dst, 2), h.text)
	}
	dst = append(dst, h.server[:]...)
	return appendMeta(dst, h.ordered, true)
}

// appendMeta appends metadata; always: as an empty map rather than null.
func appendMeta(dst []byte, ordered, always bool) []byte {
	switch {
	case ordered:
		return append(appendText(appendText(append(dst, 2, 2), orderedKey), "1"), 0)
	case always:
		return append(dst, 2, 0)
	}
	return append(dst, 0)
}

// welcome is a server's handshake.
type welcome struct {
	match   int
	text    []byte // the server's protocol, where the client does not know it
	hash    *Hash
	ordered bool
}

func readWelcome(in []byte) (w welcome, rest []byte, err error) {
	n, in, err := long(in)
	if err != nil {
		return w, nil, err
	}
	if n < matchBoth || n > matchNone {
		return w, nil, malformed("a handshake has a match that there is not")
	}
	w.match = int(n)
	there, in, err := branch(in)
	if err == nil && there {
		w.text, in, err = blob(in)
	}
	if err != nil {
		return w, nil, err
	}
	if there, in, err = branch(in); err == nil && there {
		var h Hash
		h, in, err = readHash(in)
		w.hash = &h
	}
	if err != nil {
		return w, nil, err
	}
	w.ordered, rest, err = readMeta(in)
	return w, rest, err
}

func appendWelcome(dst []byte, w welcome) []byte {
	dst = appendLong(dst, w.match)
	if w.text == nil {
		dst = append(dst, 0)
	} else {
		dst = appendText(append(dst, 2), w.text)
	}
	if w.hash == nil {
		dst = append(dst, 0)
	} else {
		dst = append(append(dst, 2), w.hash[:]...)
	}
	return appendMeta(dst, w.ordered, false)
}

// Greet reads the handshake before a request. answer goes in front of the
// answer to the request; done is false if it is all of the answer, and the next
// request has a handshake again.
func (k *Known) Greet(in []byte) (rest, answer []byte, done, ordered bool, err error) {
	h, rest, err := readHello(in)
	if err != nil {
		return nil, nil, false, false, err
	}
	known := k.Has(h.client)
	if !known && h.text != nil {
		if err := k.learn(h.client, h.text); err != nil {
			return nil, nil, false, false, err
		}
		known = true
	}
	w := welcome{match: matchBoth}
	switch {
	case !known:
		w.match = matchNone
	case h.server != Own:
		w.match = matchClient
	}
	if w.match != matchBoth {
		own := Own
		w.text, w.hash = []byte(protocolText), &own
	}
	w.ordered = known && h.ordered
	return rest, appendWelcome(nil, w), known, w.ordered, nil
}

// Method is what a request asks for.
type Method int

// The methods; Ping is an empty name: nothing but the handshake.
const (
	Ping Method = iota
	Append
	AppendBatch
	Other // a name that the protocol does not have
)

var methodNames = [...]string{Append: methodAppend, AppendBatch: methodBatch}

// ReadCall reads what stands before the parameters of a request.
func ReadCall(in []byte) (m Method, parameters []byte, err error) {
	if in, err = skipMap(in, nil); err != nil {
		return 0, nil, err
	}
	name, in, err := blob(in)
	if err != nil {
		return 0, nil, err
	}
	switch string(name) {
	case "":
		return Ping, in, nil
	case methodAppend:
		return Append, in, nil
	case methodBatch:
		return AppendBatch, in, nil
	}
	return Other, in, nil
}

// AppendCall appends what stands before the parameters of a request.
func AppendCall(dst []byte, m Method) []byte {
	return appendText(append(dst, 0), methodNames[m])
}

// The parts of an answer after the handshake: the metadata, which is empty, and
// the rest. They go out as pieces of their own, as Flume's do, the first of them
// empty where there is no handshake.
var emptyMeta = []byte{0}

func statusPart(s Status) []byte { return []byte{0, byte(s) << 1} }

func errorPart(text string) []byte {
	return appendText([]byte{1, 0}, text)
}

// AppendStatus appends the frame of an answer; greeting is what Greet gave, or nil.
func AppendStatus(dst []byte, serial uint32, greeting []byte, s Status) []byte {
	return appendAnswer(dst, serial, greeting, statusPart(s))
}

// AppendError is AppendStatus for an error in words.
func AppendError(dst []byte, serial uint32, greeting []byte, text string) []byte {
	return appendAnswer(dst, serial, greeting, errorPart(text))
}

// AppendGreeting appends the frame of an answer that is a handshake only.
func AppendGreeting(dst []byte, serial uint32, greeting []byte) []byte {
	return appendFrame(dst, serial, greeting)
}

func appendAnswer(dst []byte, serial uint32, greeting, part []byte) []byte {
	return appendFrame(dst, serial, greeting, emptyMeta, part)
}

// readAnswer reads an answer without handshake; nil is OK.
func readAnswer(in []byte) error {
	in, err := skipMap(in, nil)
	if err != nil {
		return err
	}
	if len(in) == 0 || in[0] > 1 {
		return malformed("an answer has no error flag")
	}
	failed, in := in[0] == 1, in[1:]
	n, in, err := long(in)
	if err != nil {
		return err
	}
	switch {
	case failed && n == 0:
		text, _, err := blob(in)
		if err != nil {
			return err
		}
		return RemoteError(valid(string(text[:min(len(text), maxErrorText)])))
	case failed:
		return malformed("an error is not a text")
	case n < 0 || n >= int64(len(statusNames)):
		return malformed("a status that there is not")
	case n == int64(OK):
		return nil
	}
	return Status(n)
}

// maxErrorText is as much as is shown of what a far end has to say.
const maxErrorText = 500

// Refused reports whether err is the far end's own answer, after which the
// connection goes on, rather than a broken connection.
func Refused(err error) bool {
	return errors.As(err, new(Status)) || errors.As(err, new(RemoteError))
}

func unexpected(serial uint32) error {
	return fmt.Errorf("%w: an answer to a request %d that is not waiting for one", ErrMalformed, serial)
}
