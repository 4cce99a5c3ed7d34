//go:build poison

package core

// Under -tags poison released memory is overwritten, so that a body used after
// its release shows as 0xDB bytes in a test instead of as luck.
func poisonBlock(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}

func poisonEvents(ev []Event) {
	bad := NewHeaders(Header{"poison", "used after release"})
	for i := range ev {
		ev[i] = Event{Headers: bad, Body: []byte("\xdb\xdb used after release"), Pos: -1}
	}
}
