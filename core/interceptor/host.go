package interceptor

import (
	"context"
	"net"
	"os"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Host is the catalogue entry.
var Host = core.Type[core.Interceptor]{
	Name: "host", Doc: "Adds this machine's address or name as a header.",
	Aliases: names("HostInterceptor"),
	New:     func() core.Interceptor { return new(host) },
}

type host struct {
	header      string
	useIP, keep bool
	value       string
}

// Keys implements core.Component.
func (h *host) Keys(k *conf.Keys) {
	k.String(&h.header, "hostHeader", "host", "Header to set.")
	k.Bool(&h.useIP, "useIP", true, "Use the IP address; false: the full host name.")
	k.Bool(&h.keep, "preserveExisting", false, "Keep a value that is there.")
}

// Open implements core.Component. Like Flume it looks the host up once; what
// cannot be found is logged and no header is set.
func (h *host) Open(_ context.Context, env core.Env) error {
	name, err := os.Hostname()
	if err != nil {
		env.Log.Warn("host name unknown, the header will not be set", "error", err)
		return nil
	}
	h.value = name
	addrs, err := net.LookupHost(name)
	switch {
	case err != nil || len(addrs) == 0:
		if h.useIP {
			env.Log.Warn("own address unknown, the header will not be set", "host", name, "error", err)
			h.value = ""
		}
	case h.useIP:
		h.value = addrs[0]
	case !strings.Contains(name, "."):
		if full, err := net.LookupAddr(addrs[0]); err == nil && len(full) > 0 && strings.HasPrefix(full[0], name+".") {
			h.value = strings.TrimSuffix(full[0], ".")
		}
	}
	return nil
}

// Intercept implements core.Interceptor.
func (h *host) Intercept(b *core.Batch) error {
	if h.value != "" {
		set(b, h.header, h.value, h.keep)
	}
	return nil
}
