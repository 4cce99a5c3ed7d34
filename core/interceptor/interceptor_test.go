package interceptor

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

func run(t *testing.T, typ core.Type[core.Interceptor], keys map[string]string, headers ...core.Header) core.Headers {
	t.Helper()
	i := typ.New()
	if _, faults := conf.Bind(i, keys); len(faults) > 0 {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	env.Now = func() time.Time { return time.UnixMilli(1338212793234) }
	if err := i.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(headers...)
	b.Append(h, []byte("one"))
	b.Append(h, []byte("two"))
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	if b.Events[0].Headers != b.Events[1].Headers {
		t.Error("a run of events no longer shares its headers")
	}
	return b.Events[1].Headers
}

func TestTimestamp(t *testing.T) {
	old := core.Header{Key: "timestamp", Value: "1"}
	if got := run(t, Timestamp, nil, old).Value("timestamp"); got != "1338212793234" {
		t.Errorf("got %q", got)
	}
	if got := run(t, Timestamp, map[string]string{"preserveExisting": "true"}, old).Value("timestamp"); got != "1" {
		t.Errorf("preserveExisting: got %q", got)
	}
	if got := run(t, Timestamp, map[string]string{"headerName": "when"}).Value("when"); got != "1338212793234" {
		t.Errorf("headerName: got %q", got)
	}
}

func TestStatic(t *testing.T) {
	if got := run(t, Static, nil).Value("key"); got != "value" {
		t.Errorf("defaults: got %q", got)
	}
	keys := map[string]string{"key": "dc", "value": "ber"}
	old := core.Header{Key: "dc", Value: "ams"}
	if got := run(t, Static, keys, old).Value("dc"); got != "ams" {
		t.Errorf("an existing value is kept by default, got %q", got)
	}
	keys["preserveExisting"] = "false"
	if got := run(t, Static, keys, old).Value("dc"); got != "ber" {
		t.Errorf("preserveExisting=false: got %q", got)
	}
}

func TestHost(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, Host, map[string]string{"useIP": "false", "hostHeader": "h"}).Value("h"); len(got) < len(name) || got[:len(name)] != name {
		t.Errorf("name: got %q on %q", got, name)
	}
	if addrs, err := net.LookupHost(name); err == nil {
		if got := run(t, Host, nil).Value("host"); net.ParseIP(got) == nil {
			t.Errorf("address: got %q, the host has %v", got, addrs)
		}
	}
	if got := run(t, Host, map[string]string{"preserveExisting": "true"}, core.Header{Key: "host", Value: "x"}).Value("host"); got != "x" {
		t.Errorf("preserveExisting: got %q", got)
	}
}
