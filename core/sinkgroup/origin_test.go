package sinkgroup

import (
	"testing"

	"github.com/millrace/millrace/core"
)

// fromChannel is a lease as a channel makes it.
type fromChannel struct{ core.TakeTx }

// A sink of a group finds the channel's own lease beneath what wraps it.
func TestOriginThroughGroups(t *testing.T) {
	lease := new(fromChannel)
	for _, tx := range []core.Lease{lease, &groupTx{TakeTx: lease}, &balancedTx{TakeTx: lease}, &balancedTx{TakeTx: &groupTx{TakeTx: lease}}} {
		if got := core.Origin(tx); got != core.Lease(lease) {
			t.Errorf("beneath %T is %T", tx, got)
		}
	}
}
