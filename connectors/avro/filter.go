package avro

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/javaregex"
)

// filter is ipFilterRules. Its syntax is Flume's, whose patterns are Netty's:
// regular expressions in which the dot is one and * and ? are wild cards.
type filter []rule

type rule struct {
	allow, name, localhost bool
	pattern                *javaregex.Regexp
}

func parseFilter(text string) (filter, error) {
	var f filter
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		fields := strings.SplitN(part, ":", 3)
		if len(fields) != 3 || fields[2] == "" {
			return nil, fmt.Errorf("has the rule %q, which is not allow|deny:ip|name:pattern", part)
		}
		var r rule
		switch fields[0] {
		case "allow":
			r.allow = true
		case "deny":
		default:
			return nil, fmt.Errorf("has the rule %q, which begins with neither allow: nor deny:", part)
		}
		switch fields[1] {
		case "name":
			r.name = true
			r.localhost = fields[2] == "localhost"
		case "ip":
		default:
			return nil, fmt.Errorf("has the rule %q, which is for neither ip nor name", part)
		}
		var err error
		r.pattern, err = javaregex.CompileWhole(strings.NewReplacer(".", `\.`, "*", ".*", "?", ".").Replace(fields[2]))
		if err != nil {
			return nil, fmt.Errorf("has the rule %q, whose pattern is none: %w", part, err)
		}
		f = append(f, r)
	}
	if len(f) == 0 {
		return nil, errors.New("has no rule")
	}
	return f, nil
}

// lookupTime is how long the name of a peer may take to be found.
const lookupTime = 5 * time.Second

// allows reports whether addr may connect. Names are looked up when the first
// rule that needs them is reached; a peer whose name is not found has its
// address for a name.
func (f filter) allows(ctx context.Context, addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return true // not an address of the internet: no rule fits
	}
	ip := ap.Addr().Unmap().WithZone("")
	var names []string
	for _, r := range f {
		fits := false
		switch {
		case r.localhost:
			fits = isLocal(ip)
		case r.name:
			if names == nil {
				names = peerNames(ctx, ip)
			}
			fits = r.matches(names...)
		default:
			fits = r.matches(ip.String(), javaText(ip))
		}
		if fits {
			return r.allow
		}
	}
	return true
}

func (r rule) matches(texts ...string) bool {
	for _, t := range texts {
		if ok, err := r.pattern.Match([]byte(t)); ok && err == nil {
			return true
		}
	}
	return false
}

// isLocal reports whether ip is the loopback or an address of this machine.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == ip {
				return true
			}
		}
	}
	return false
}

// peerNames is what a name rule looks at: what the resolver says.
func peerNames(ctx context.Context, ip netip.Addr) []string {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupAddr(ctx, ip.String())
	if err != nil || len(found) == 0 {
		return []string{ip.String()}
	}
	for i := range found {
		found[i] = strings.TrimSuffix(found[i], ".")
	}
	return found
}

// javaText writes an address as Java does: all eight groups of an IPv6 one.
func javaText(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	b := ip.As16()
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%x", uint16(b[2*i])<<8|uint16(b[2*i+1]))
	}
	return strings.Join(groups, ":")
}
