package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/core"
)

// appendDatum appends an event as the Avro datum that Flume's Kafka components
// write: the map of its headers, then the body. See AvroFlumeEvent in flume-ng-sdk.
func appendDatum(dst []byte, h core.Headers, body []byte) []byte {
	if n := h.Len(); n > 0 {
		dst = binary.AppendVarint(dst, int64(n))
		for k, v := range h.All() {
			dst = appendText(appendText(dst, k), v)
		}
	}
	dst = append(dst, 0)
	return append(binary.AppendVarint(dst, int64(len(body))), body...)
}

// appendText appends a string, with U+FFFD for what is not UTF-8.
func appendText(dst []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return append(binary.AppendVarint(dst, int64(len(s))), s...)
}

// maxDatumHeaders is more than any event has; a count beyond it is not believed.
const maxDatumHeaders = 1 << 16

var errNull = errors.New("value is null, which is not an event of Flume")

// readDatum reads such a datum. The headers are appended to into; the body is
// part of data. What follows the body is ignored, as Flume does.
func readDatum(data []byte, into []core.Header) (headers []core.Header, body []byte, err error) {
	if data == nil {
		return nil, nil, errNull
	}
	c := cursor{data: data}
	for total := int64(0); ; {
		n := c.varint()
		if n < 0 { // then the size of the block in bytes follows
			n = -n
			c.varint()
		}
		if n == 0 || c.err != nil {
			break
		}
		if total += n; n < 0 || total > maxDatumHeaders {
			return nil, nil, fmt.Errorf("not an event of Flume: %d headers", total)
		}
		for ; n > 0 && c.err == nil; n-- {
			key := c.take(c.varint())
			into = append(into, core.Header{Key: string(key), Value: string(c.take(c.varint()))})
		}
	}
	body = c.take(c.varint())
	if c.err != nil {
		return nil, nil, fmt.Errorf("not an event of Flume: %w", c.err)
	}
	return into, body, nil
}
