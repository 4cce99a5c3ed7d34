package thrift

import (
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
)

// Nothing is lost and nothing overtakes, from one of ours to another.
//
// flume: TestThriftSink testProcess
func TestFlow(t *testing.T) { rpctest.Flow(t, wire) }
