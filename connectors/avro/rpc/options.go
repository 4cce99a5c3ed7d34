package rpc

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Options are the keys of Flume's RPC client, which its avro sink has too.
type Options struct {
	Addrs            []string // host:port
	Batch            int
	Connect, Request time.Duration
	Deflate          bool
	Level            int
	TLS              tlsconf.Client
	Kind             Kind
	Attempts         int
	Random, Backoff  bool
	MaxBackoff       time.Duration

	host, compression string
	port              int
	aliases           []string
	hosts             map[string]string
}

// Defaults of Flume's clients.
const (
	DefaultBatch   = 100
	DefaultTimeout = 20 * time.Second
	DefaultLevel   = 6
)

// classPrefix begins the names of classes that stand for words here.
const classPrefix = "org.apache.flume."

var kinds = map[string]Kind{
	"default": Single, "default_failover": Failover, "default_loadbalance": LoadBalance,
	"api.nettyavrorpcclient": Single, "api.failoverrpcclient": Failover, "api.loadbalancingrpcclient": LoadBalance,
}

var selectors = map[string]bool{ // random?
	"round_robin": false, "random": true,
	"util.roundrobinorderselector": false, "util.randomorderselector": true,
}

// SinkKeys binds the keys of a sink: hostname and port, or several hosts as for a client.
func (o *Options) SinkKeys(k *conf.Keys) {
	k.String(&o.host, "hostname", "", "Host name or address of the agent to send to. Required, unless hosts is set.")
	k.Int(&o.port, "port", 0, "Port of that agent. Required, unless hosts is set.").Must(conf.Range(1, 65535))
	o.keys(k)
	k.Check(func(r *conf.Report) {
		if r.IsSet("hosts") || r.IsSet("hosts.") {
			return
		}
		for _, key := range []string{"hostname", "port"} {
			if !r.IsSet(key) {
				r.Error(key, "is required")
			}
		}
		o.Addrs = []string{net.JoinHostPort(o.host, strconv.Itoa(o.port))}
		if o.Kind != Single {
			r.Error("client.type", "needs hosts, a list of names, and hosts.<name> = host:port for each")
		}
	})
}

// ClientKeys binds the keys of a client.
func (o *Options) ClientKeys(k *conf.Keys) {
	o.keys(k)
	k.Check(func(r *conf.Report) {
		if !r.IsSet("hosts") {
			r.Error("hosts", "is required: a list of names, and hosts.<name> = host:port for each")
		}
	})
}

func (o *Options) keys(k *conf.Keys) {
	k.Batch(&o.Batch, "batch-size", DefaultBatch, "Most events in one request.").OrDefault()
	k.Millis(&o.Connect, "connect-timeout", DefaultTimeout, "How long connecting may take, with all handshakes.").Must(conf.Min(1000)).OrDefault()
	k.Millis(&o.Request, "request-timeout", DefaultTimeout, "How long the far end may take to answer a request.").Must(conf.Min(1000)).OrDefault()
	k.String(&o.compression, "compression-type", "none", "none or deflate; the far end must have the same.").Must(conf.OneOf("none", "deflate")).OrDefault()
	k.Int(&o.Level, "compression-level", DefaultLevel, "How hard to compress: 0 not at all, 9 most.").Must(conf.Range(0, 9)).OrDefault()
	tlsconf.ClientKeys(k, &o.TLS)

	k.Func("client.type", "string", "default", "How several hosts are used: default (the first only), default_failover (one, and the next when it fails), default_loadbalance (in turn).",
		func(text string) error {
			kind, ok := kinds[strings.TrimPrefix(strings.ToLower(text), classPrefix)]
			if !ok {
				return errors.New("is not one of default, default_failover, default_loadbalance: Thrift has a sink of its own, and Java classes can not be loaded")
			}
			o.Kind = kind
			return nil
		})
	o.aliases = nil
	k.Words(&o.aliases, "hosts", "Names of several agents to send to, instead of hostname and port.")
	k.Map(&o.hosts, "hosts.", "Address of the host <name>: host:port.")
	k.Int(&o.Attempts, "max-attempts", 0, "For default_failover: hosts to try for one request before the failure counts; 0: as many as there are.").Must(conf.Min(0)).OrDefault()
	k.Func("host-selector", "string", "round_robin", "For default_loadbalance: round_robin or random.", func(text string) error {
		random, ok := selectors[strings.TrimPrefix(strings.ToLower(text), classPrefix)]
		if !ok {
			return errors.New("is not one of round_robin, random: Java classes can not be loaded")
		}
		o.Random = random
		return nil
	})
	k.Bool(&o.Backoff, "backoff", false, "For default_loadbalance: leave a host that failed out for a while, longer each time.")
	k.Millis(&o.MaxBackoff, "maxBackoff", 0, "For default_loadbalance: the longest such while; 0: 30 seconds.").Must(conf.Min(0)).OrDefault()
	k.Inert("maxIoWorkers", "has no effect: connections need no threads of their own")
	k.Check(o.check)
}

func (o *Options) check(r *conf.Report) {
	o.Deflate = o.compression == "deflate"
	if !r.IsSet("hosts") {
		if r.IsSet("hosts.") {
			r.Error("hosts", "is missing: the list of the names in hosts.<name>")
		}
		return
	}
	o.Addrs = nil
	for _, name := range o.aliases {
		addr, ok := o.hosts[name]
		if !ok {
			r.Warn("hosts", "%s has no address: hosts.%s = host:port", name, name)
			continue
		}
		if err := CheckAddr(addr); err != nil {
			r.Error("hosts."+name, "%q %v", addr, err)
		}
		o.Addrs = append(o.Addrs, addr)
	}
	if r.IsSet("hostname") {
		r.Warn("hostname", "is ignored: hosts says where to send")
	}
	switch n := len(o.Addrs); {
	case n == 0:
		r.Error("hosts", "names no host that has an address")
	case n == 1 && o.Kind == LoadBalance:
		r.Error("hosts", "has one host only: default_loadbalance needs two")
	case n > 1 && o.Kind == Single:
		r.Warn("hosts", "only the first is used, unless client.type is default_failover or default_loadbalance")
		o.Addrs = o.Addrs[:1]
	}
	if o.Kind != LoadBalance {
		for _, key := range []string{"host-selector", "backoff", "maxBackoff"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect without client.type = default_loadbalance")
			}
		}
	}
	if o.Kind != Failover && r.IsSet("max-attempts") {
		r.Warn("max-attempts", "has no effect without client.type = default_failover")
	}
}

// CheckAddr reports why addr is not host:port, as the rest of a sentence.
func CheckAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return errors.New("is not host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("has no port between 1 and 65535")
	}
	return nil
}

// Order returns the order of the hosts.
func (o *Options) Order() *Order {
	n := len(o.Addrs)
	attempts := o.Attempts
	if attempts == 0 {
		attempts = n
	}
	return &Order{Kind: o.Kind, Hosts: n, Attempts: attempts, Random: o.Random, Backoff: o.Backoff, MaxBackoff: o.MaxBackoff}
}

// Dialer reads the TLS stores and returns what connects.
func (o *Options) Dialer(env core.Env) (*Dialer, error) {
	secure, err := o.TLS.Client(env)
	if err != nil {
		return nil, err
	}
	return &Dialer{Connect: o.Connect, Request: o.Request, Deflate: o.Deflate, Level: o.Level, TLS: secure}, nil
}
