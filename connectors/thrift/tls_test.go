package thrift

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
)

// From our sink to our source: plain, in both protocols, with TLS.
//
// flume: TestThriftSource testAppendSSLWithComponentKeystore
// flume: TestThriftSink testSslProcessWithComponentTruststore testSslSinkWithNonSslServer testSslSinkWithNonTrustedCert
func TestHop(t *testing.T) {
	x := rpctest.NewTLS(t)
	binary := []string{"protocol", "binary"}
	rpctest.Hops(
		t, wire, x,
		rpctest.Hop{Name: "compact"},
		rpctest.Hop{Name: "binary", Source: binary, Sink: binary},
		rpctest.Hop{Name: "binary and TLS", Source: slices.Concat(x.Secure, binary), Sink: slices.Concat(x.Trusting, binary)},

		rpctest.Hop{Name: "binary to compact", Sink: binary, Fails: "the far end closed the connection"},
		rpctest.Hop{Name: "compact to binary", Source: binary, Fails: "the far end closed the connection"},
	)
}

// Stores that the environment names for all components.
//
// flume: TestThriftSource testAppendSSLWithGlobalKeystore
// flume: TestThriftSink testSslProcessWithGlobalTruststoreNoPassword
func TestGlobalStores(t *testing.T) { rpctest.GlobalStores(t, wire) }
