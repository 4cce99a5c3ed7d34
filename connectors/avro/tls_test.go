package avro

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
)

// From our sink to our source: plain, deflate at every level, TLS, both.
//
// flume: TestAvroSource testRequestWithCompressionOnServerOnly testRequestWithCompressionOnClientOnly
// flume: TestAvroSource testSslRequestWithComponentKeystore
// flume: TestAvroSource testValidIpFilterAllows testValidIpFilterDenys
// flume: TestAvroSink testSslProcessTrustAllCerts testSslProcessWithComponentTruststore testSslProcessWithComponentTruststoreNoPassword
// flume: TestAvroSink testSslWithCompression testSslSinkWithNonSslServer testSslSinkWithNonTrustedCert
// flume: TestAvroSink testRequestWithNoCompression testRequestWithCompressionOnClientAndServerOnLevel0 testRequestWithCompressionOnClientAndServerOnLevel1
// flume: TestAvroSink testRequestWithCompressionOnClientAndServerOnLevel6 testRequestWithCompressionOnClientAndServerOnLevel9
func TestHop(t *testing.T) {
	x := rpctest.NewTLS(t)
	packed := []string{"compression-type", "deflate"}
	local := []string{"ipFilter", "true", "ipFilterRules", "allow:name:localhost,deny:ip:*"}
	nobody := []string{"ipFilter", "true", "ipFilterRules", "deny:ip:127*,allow:ip:*"}
	with := func(list ...[]string) []string { return slices.Concat(list...) }
	rpctest.Hops(
		t, wire, x,
		rpctest.Hop{Name: "plain"},
		rpctest.Hop{Name: "deflate 0", Source: packed, Sink: with(packed, []string{"compression-level", "0"})},
		rpctest.Hop{Name: "deflate 1", Source: packed, Sink: with(packed, []string{"compression-level", "1"})},
		rpctest.Hop{Name: "deflate 6", Source: packed, Sink: packed},
		rpctest.Hop{Name: "deflate 9", Source: packed, Sink: with(packed, []string{"compression-level", "9"})},
		rpctest.Hop{Name: "TLS and deflate", Source: with(x.Secure, packed), Sink: with(x.Trusting, packed)},
		rpctest.Hop{Name: "mutual TLS and deflate", Source: with(x.Mutual, packed), Sink: with(x.Trusting, packed, []string{"keystore", x.Client})},
		rpctest.Hop{Name: "let in by ipFilterRules", Source: local},
		rpctest.Hop{Name: "let in by ipFilterRules, TLS", Source: with(local, x.Secure), Sink: x.Trusting},

		rpctest.Hop{Name: "kept out by ipFilterRules", Source: nobody, Fails: "handshake with"},
		rpctest.Hop{Name: "kept out by ipFilterRules, TLS", Source: with(nobody, x.Secure), Sink: x.Trusting, Fails: "handshake with"},
		rpctest.Hop{Name: "deflate to a plain source", Sink: packed, Fails: "handshake with"},
		rpctest.Hop{Name: "plain to a deflate source", Source: packed, Fails: "handshake with"},
	)
}

// Stores that the environment names for all components.
//
// flume: TestAvroSource testSslRequestWithGlobalKeystore
// flume: TestAvroSink testSslProcessWithGlobalTruststore testSslProcessWithGlobalTruststoreNoPassword
func TestGlobalStores(t *testing.T) { rpctest.GlobalStores(t, wire) }
