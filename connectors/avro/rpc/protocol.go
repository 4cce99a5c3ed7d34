package rpc

import (
	"crypto/md5" //nolint:gosec // the hash that Avro's handshake is made of
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// protocolText is what Flume 1.11 offers, to the letter: its hash is its name.
//
//go:embed protocol.json
var protocolText string

// Hash is the MD5 of a protocol's text.
type Hash [md5.Size]byte

// Own is the hash of the protocol that is offered here, which is Flume 1.11's.
var Own = Hash(md5.Sum([]byte(protocolText)))

// others are protocols that differ from it in their commentary only: as builds
// with another version of Avro have it, and without any.
var others = []string{"8076c53714e01f6e2c1deb9544e7b1fe", "30da54059df72d9584b867d5202e2069"}

// Known are the protocols of clients that may be talked to. It may be used from
// several goroutines.
type Known struct {
	mu     sync.Mutex
	hashes map[Hash]bool
}

// maxKnown bounds what clients can make a server remember.
const maxKnown = 256

// NewKnown knows the protocols of all Flumes.
func NewKnown() *Known {
	k := &Known{hashes: map[Hash]bool{Own: true}}
	for _, text := range others {
		var h Hash
		if _, err := hex.Decode(h[:], []byte(text)); err != nil {
			panic(err) // it is written above
		}
		k.hashes[h] = true
	}
	return k
}

// Has reports whether h is known.
func (k *Known) Has(h Hash) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hashes[h]
}

// learn checks a text and remembers it under its hash, if h is that.
func (k *Known) learn(h Hash, text []byte) error {
	if err := compatible(text); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.hashes) < maxKnown && h == Hash(md5.Sum(text)) {
		k.hashes[h] = true
	}
	return nil
}

// Names of the protocol's types and messages.
const (
	methodAppend = "append"
	methodBatch  = "appendBatch"
	typeEvent    = "AvroFlumeEvent"
	typeStatus   = "Status"
)

// maxProtocol is the longest text of a protocol; Flume's has 1334 bytes.
const maxProtocol = 64 << 10

// protocol is what of a protocol's text decides about its bytes.
type protocol struct {
	Types []struct {
		Type, Name, Namespace string
		Symbols               []string
		Fields                []struct {
			Name string
			Type json.RawMessage
		}
	}
	Messages map[string]struct {
		Request  []struct{ Type json.RawMessage }
		Response json.RawMessage
		Errors   []json.RawMessage
		OneWay   bool `json:"one-way"`
	}
}

// compatible reports why the messages of a protocol do not look as Flume's do
// on the wire; nil if they do.
func compatible(text []byte) error {
	if len(text) > maxProtocol {
		return fmt.Errorf("protocol: its text is longer than %d bytes", maxProtocol)
	}
	var p protocol
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read protocol: %w", err)
	}
	seen := 0
	for _, t := range p.Types {
		switch t.Name {
		case typeStatus:
			if t.Type != "enum" || !slices.Equal(t.Symbols, statusNames[:]) {
				return errors.New("protocol: Status is not the enum OK, FAILED, UNKNOWN")
			}
			seen++
		case typeEvent:
			if t.Type != "record" || len(t.Fields) != 2 || t.Fields[0].Name != "headers" || t.Fields[1].Name != "body" ||
				shape(t.Fields[0].Type) != "map<string>" || shape(t.Fields[1].Type) != "bytes" {
				return errors.New("protocol: AvroFlumeEvent is not a record of headers (a map of strings) and body (bytes)")
			}
			seen++
		}
	}
	if seen != 2 {
		return errors.New("protocol: it is not Flume's: AvroFlumeEvent or Status is missing")
	}
	for name, parameter := range map[string]string{methodAppend: typeEvent, methodBatch: "array<" + typeEvent + ">"} {
		m, ok := p.Messages[name]
		if !ok {
			continue // a client that never sends it
		}
		if m.OneWay || len(m.Errors) > 0 || len(m.Request) != 1 || shape(m.Request[0].Type) != parameter || shape(m.Response) != typeStatus {
			return fmt.Errorf("protocol: message %s does not take %s and answer %s", name, parameter, typeStatus)
		}
	}
	return nil
}

// shape writes a type in short: a name, map<values>, array<items>.
func shape(raw json.RawMessage) string { return shapeTo(raw, maxDepth) }

// maxDepth is how deep a type may be nested to be looked at.
const maxDepth = 4

func shapeTo(raw json.RawMessage, depth int) string {
	if depth == 0 {
		return ""
	}
	var name string
	if json.Unmarshal(raw, &name) == nil {
		for _, own := range []string{typeEvent, typeStatus} {
			if name == "org.apache.flume.source.avro."+own {
				return own
			}
		}
		return name
	}
	var t struct {
		Type          json.RawMessage
		Values, Items json.RawMessage
	}
	if json.Unmarshal(raw, &t) != nil {
		return ""
	}
	switch {
	case t.Values != nil:
		return "map<" + shapeTo(t.Values, depth-1) + ">"
	case t.Items != nil:
		return "array<" + shapeTo(t.Items, depth-1) + ">"
	}
	return shapeTo(t.Type, depth-1) // {"type":"string","avro.java.string":"String"}
}
