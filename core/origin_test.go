package core

import "testing"

// A sink finds the channel's own lease beneath what the runner wraps it in.
func TestOrigin(t *testing.T) {
	lease := new(struct{ Lease })
	runners := &runnerTx{Lease: lease}
	for _, tx := range []Lease{lease, runners, &meteredTx{TakeTx: runners}} {
		if got := Origin(tx); got != Lease(lease) {
			t.Errorf("beneath %T is %T", tx, got)
		}
	}
}
