package avro

import (
	"maps"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core/suite"
)

func TestSourceChecks(t *testing.T) { suite.Run(t, wire, rpctest.SourceChecks) }

// flume: TestAvroSource testInvalidIpFilter
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string // in a fault; empty: none
	}{
		{map[string]string{}, ""},
		{map[string]string{"threads": "x", "maxIoWorkers": "4", "compression-type": "DEFLATE"}, ""},
		{map[string]string{"compression-type": "snappy"}, "default none"},
		{map[string]string{"port": "70000"}, "between 0 and 65535"},
		{map[string]string{"ssl": "true"}, "keystore"},
		{map[string]string{"ipFilter": "true"}, "ipFilterRules: is required"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": ""}, "ipFilterRules: is required"},
		{map[string]string{"ipFilterRules": "allow:ip:*"}, "no effect without ipFilter"},
		{map[string]string{"ipFilterRules": "homer:ip:1.2.3.4"}, "no effect without ipFilter"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "homer:ip:1.2.3.4"}, "neither allow: nor deny:"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:sleeps:1.2.3.4"}, "neither ip nor name"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:ip:1.2.3.4,,deny:ip:*"}, "not allow|deny"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:ip:(*"}, "whose pattern is none"},
	} {
		keys := rpctest.SourceKeys()
		maps.Copy(keys, c.keys)
		text := rpctest.Faults(Source.New(), keys)
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.keys, text, c.want)
		}
	}
}
