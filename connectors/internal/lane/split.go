package lane

import "github.com/millrace/millrace/core"

// RequestBytes is about how large a request becomes before its batch goes out in
// several: far ends have limits; a Java one for Thrift takes 16 384 000 bytes.
const RequestBytes = 8 << 20

// split cuts events into parts of about RequestBytes, of one event at least.
// framing is what an event needs beside its headers and body.
func split(events []core.Event, framing int) (parts [][]core.Event) {
	from, size, headers := 0, 0, 0
	for i := range events {
		if i == 0 || events[i].Headers != events[i-1].Headers {
			headers = framing
			for k, v := range events[i].Headers.All() {
				headers += len(k) + len(v) + 8
			}
		}
		n := headers + len(events[i].Body)
		if size > 0 && size+n > RequestBytes {
			parts = append(parts, events[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(parts, events[from:])
}
