package thrift

import (
	"testing"

	"github.com/millrace/millrace/connectors/internal/lane/lanetest"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
)

// Nothing is lost and nothing overtakes, from one of ours to another.
//
// flume: TestThriftSink testProcess
func TestFlow(t *testing.T) {
	lanetest.Flow(t, func(out core.Outlet) (string, core.Env) { return rpctest.Serve(t, wire, out) }, Sink.New, defaultInFlight)
}
