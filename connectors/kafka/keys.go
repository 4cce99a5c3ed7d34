package kafka

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"github.com/millrace/millrace/connectors/internal/kerberos"
	"github.com/millrace/millrace/connectors/internal/pause"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// connection are the properties that all of Kafka's Java clients have, as the
// keys below kafka.producer. or kafka.consumer. say them.
type connection struct {
	prefix                      string
	servers                     []string
	clientID                    string
	protocol                    string
	mechanism                   string
	jaas                        string
	service                     string // Kerberos's name of the brokers
	krb5                        string // krb5.conf
	tokens                      string // where tokens come from
	callback                    string
	oauthID, oauthSecret, scope string
	tls                         tlsconf.Client
	setup                       time.Duration
	request                     time.Duration
	backoff                     time.Duration
	metadata                    time.Duration
	rest                        map[string]string // what no key claims

	auth sasl.Mechanism // made by check
}

// The values of security.protocol.
const (
	plaintext     = "PLAINTEXT"
	ssl           = "SSL"
	saslPlaintext = "SASL_PLAINTEXT"
	saslSSL       = "SASL_SSL"
)

// inert are properties of Java's clients that can mean nothing here, with why.
// Those of one kind of client only are beside its keys.
var inert = []struct{ name, why string }{
	{"bootstrap.servers", "has no effect, as in Flume: kafka.bootstrap.servers says it"},
	{"key.serializer", serializers},
	{"value.serializer", serializers},
	{"key.deserializer", serializers},
	{"value.deserializer", serializers},
	{"send.buffer.bytes", buffers},
	{"receive.buffer.bytes", buffers},
	{"reconnect.backoff.ms", pauses},
	{"reconnect.backoff.max.ms", pauses},
	{"retry.backoff.max.ms", pauses},
	{"socket.connection.setup.timeout.max.ms", "has no effect: socket.connection.setup.timeout.ms is for every attempt"},
	{"connections.max.idle.ms", "has no effect: a connection that the broker has closed is made again"},
	{"client.dns.lookup", "has no effect: all addresses of a host are tried in turn"},
	{"metric.reporters", reporters},
	{"metrics.num.samples", reporters},
	{"metrics.recording.level", reporters},
	{"metrics.sample.window.ms", reporters},
	{"auto.include.jmx.reporter", reporters},
	{"enable.metrics.push", reporters},
	{"metadata.recovery.strategy", "has no effect: bootstrap servers are always asked again"},
	{"metadata.recovery.rebootstrap.trigger.ms", "has no effect: bootstrap servers are always asked again"},
	{"security.providers", "has no effect: there is no Java here"},
	{"sasl.client.callback.handler.class", "has no effect: user and password are those of sasl.jaas.config"},
	{"sasl.kerberos.kinit.cmd", tickets},
	{"sasl.kerberos.min.time.before.relogin", tickets},
	{"sasl.kerberos.ticket.renew.jitter", tickets},
	{"sasl.kerberos.ticket.renew.window.factor", tickets},
	{"sasl.login.refresh.window.factor", tokens},
	{"sasl.login.refresh.window.jitter", tokens},
	{"sasl.login.refresh.min.period.seconds", tokens},
	{"sasl.login.refresh.buffer.seconds", tokens},
	{"sasl.login.connect.timeout.ms", tokens},
	{"sasl.login.read.timeout.ms", tokens},
	{"sasl.login.retry.backoff.ms", pauses},
	{"sasl.login.retry.backoff.max.ms", pauses},
	{"sasl.oauthbearer.scope.claim.name", claims},
	{"sasl.oauthbearer.sub.claim.name", claims},
}

const (
	serializers = "has no effect: a key is text and a value the event's bytes, as in Flume"
	buffers     = "has no effect: the system sizes the buffers of sockets"
	pauses      = "has no effect: pauses begin with retry.backoff.ms and grow to a second"
	tickets     = "has no effect: a ticket is renewed in time, and a new one is got where that fails"
	tokens      = "has no effect: a token is got when a connection is made and the one before is near its end, within socket.connection.setup.timeout.ms"
	claims      = "has no effect: the broker reads what is in the token"
	reporters   = "has no effect: the agent has metrics of its own"
)

// Kafka's own handler of logins with tokens, since 3.4 and before.
const (
	bearerHandler       = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
	bearerHandlerBefore = "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler"
)

// serversKey binds the brokers, of which there is one list for all connections of a component.
func serversKey(k *conf.Keys, servers *[]string, old ...string) {
	k.Commas(servers, "kafka.bootstrap.servers", "Brokers to begin with, as host:port; one that answers is enough, two are safer.").Alias(old...)
	k.Check(func(r *conf.Report) {
		if len(*servers) == 0 {
			text := "is required"
			if r.IsSet("zookeeperConnect") {
				text += ": brokers are not looked up in ZooKeeper (zookeeperConnect)"
			}
			r.Error("kafka.bootstrap.servers", "%s", text)
		}
		for _, s := range *servers {
			if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
				r.Error("kafka.bootstrap.servers", "%q is not host:port", s)
			}
		}
	})
}

// keys binds them.
func (c *connection) keys(k *conf.Keys, prefix string) {
	c.prefix = prefix
	p := func(name string) string { return prefix + name }
	k.String(&c.clientID, p("client.id"), "", "Name by which brokers log this client and limit it; absent: millrace and the component's name.")
	k.String(&c.protocol, p("security.protocol"), plaintext, "TLS with SSL and SASL_SSL, a login with SASL_PLAINTEXT and SASL_SSL.").
		Must(conf.OneOf(plaintext, ssl, saslPlaintext, saslSSL))
	k.String(&c.mechanism, p("sasl.mechanism"), "GSSAPI", "Kind of login: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI (Kerberos) or OAUTHBEARER.").
		Must(conf.OneOf(slices.Sorted(maps.Keys(logins))...))
	k.String(&c.jaas, p("sasl.jaas.config"), "",
		"Who to be, as Java writes it: org.apache.kafka.common.security.scram.ScramLoginModule required username=\"…\" password=\"…\"; for Kerberos "+
			"com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab=\"…\" principal=\"…\";").Secret()
	k.String(&c.service, p("sasl.kerberos.service.name"), "", "Kerberos's name of the brokers, mostly kafka; serviceName in sasl.jaas.config does as well.")
	k.String(&c.krb5, p("sasl.kerberos.krb5.conf"), kerberos.DefaultConf, "Kerberos's configuration, which Java is told by java.security.krb5.conf.")
	k.String(&c.tokens, p("sasl.oauthbearer.token.endpoint.url"), "",
		"Where tokens come from, by the client's id and secret; or a file that another program keeps fresh: file:///….")
	k.String(&c.oauthID, p("sasl.oauthbearer.client.credentials.client.id"), "", "The client's id for it; clientId in sasl.jaas.config does as well.")
	k.String(&c.oauthSecret, p("sasl.oauthbearer.client.credentials.client.secret"), "", "And its secret; clientSecret does as well.").Secret()
	k.String(&c.scope, p("sasl.oauthbearer.scope"), "", "What the token is to be good for; scope does as well.")
	k.String(&c.callback, p("sasl.login.callback.handler.class"), "", "Only Kafka's own OAuthBearerLoginCallbackHandler: others are Java code.").Must(conf.OneOf("", bearerHandler, bearerHandlerBefore))
	tlsconf.JavaKeys(k, &c.tls, prefix)
	k.Millis(&c.setup, p("socket.connection.setup.timeout.ms"), 10*time.Second, "How long a connection may take to be made, TLS and login included.").Must(conf.Min(1))
	k.Millis(&c.request, p("request.timeout.ms"), 30*time.Second, "How long a broker may take to answer.").Must(conf.Min(1))
	k.Millis(&c.backoff, p("retry.backoff.ms"), 100*time.Millisecond, "First pause before a request is tried again; it doubles up to a second.").Must(conf.Min(1))
	k.Millis(&c.metadata, p("metadata.max.age.ms"), 5*time.Minute, "How often topics and partitions are looked up although nothing failed.").Must(conf.Min(1))
	for _, i := range inert {
		k.Inert(p(i.name), i.why)
	}
	k.Map(&c.rest, prefix, "Other properties of Kafka's Java client. Those that need Java are refused by name; unknown ones are ignored, with a warning.")
	k.Check(c.check)
}

// refused are properties that would change what a user gets, and that are not
// had here, with what to do instead. A dot at the end: all that begin so.
var refused = []struct{ name, instead string }{
	{"transactional.id", "only a sink writes in transactions: leave it out; the producer is idempotent"},
	{"interceptor.classes", "is Java code, which is not run here: use an interceptor of the agent"},
	{"config.providers.", "is Java code: use a config filter of the agent"},
	{"group.instance.id", "members have no fixed names here: leave it out; a member that stops leaves its group at once"},
	{"sasl.login.class", "is Java code, which is not run here"},
	{"sasl.oauthbearer.assertion.", "signed assertions are not made here: use a client's id and secret, or a file with the token"},
	{"sasl.oauthbearer.jwt.", "is Java code: tokens come from sasl.oauthbearer.token.endpoint.url"},
}

// checkRest looks at what no key claims.
func (c *connection) checkRest(r *conf.Report) {
	for name := range c.rest {
		if i := slices.IndexFunc(refused, func(f struct{ name, instead string }) bool {
			return name == f.name || strings.HasSuffix(f.name, ".") && strings.HasPrefix(name+".", f.name)
		}); i >= 0 {
			r.Error(c.prefix+name, "%s", refused[i].instead)
			continue
		}
		if slices.Contains(tlsconf.JavaRefused, name) { // tlsconf has said so
			continue
		}
		r.Warn(c.prefix+name, "is not a property of Kafka's client that is known here: it is ignored")
	}
}

func (c *connection) check(r *conf.Report) {
	c.tls.Java(r, c.prefix, c.protocol == ssl || c.protocol == saslSSL)
	c.checkRest(r)
	login := c.protocol == saslPlaintext || c.protocol == saslSSL
	key := c.prefix + "sasl.jaas.config"
	switch {
	case !login && r.IsSet(key):
		r.Warn(key, "has no effect: security.protocol is neither SASL_PLAINTEXT nor SASL_SSL")
	case login && c.jaas == "":
		r.Error(key, "is required with security.protocol = %s and sasl.mechanism = %s: %s required …; JAAS files of a JVM are not read here", c.protocol, c.mechanism, logins[c.mechanism])
	case login:
		var err error
		if c.auth, err = c.login(); err != nil {
			r.Error(key, "%v", err)
		}
		if c.protocol == saslPlaintext && c.mechanism == "PLAIN" && !slices.ContainsFunc(c.servers, local) {
			r.Warn(c.prefix+"security.protocol", "with PLAIN the password travels in clear text: use SASL_SSL")
		}
	}
}

func local(server string) bool {
	host, _, _ := net.SplitHostPort(server)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// client makes the client. count hears of connections.
func (c *connection) client(env core.Env) (*client, error) {
	secure, err := c.tls.Client(env)
	if err != nil {
		return nil, err
	}
	if g, ok := c.auth.(*gssapi); ok {
		if err := g.login.Check(env.FS); err != nil {
			return nil, err
		}
	}
	id := c.clientID
	if id == "" {
		id = "millrace-" + env.Name
	}
	m := env.Metrics
	return &client{
		seeds: c.servers, id: id, tls: secure, sasl: c.auth, connect: c.setup, request: c.request,
		onChange: func(made, closed, failed int64) {
			m.ConnectionCreated.Add(made)
			m.ConnectionClosed.Add(closed)
			m.ConnectionFailed.Add(failed)
		},
	}, nil
}

// topicName reports whether a topic may be called so.
func topicName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 249 ||
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return fmt.Errorf("%.300q is not the name of a topic: letters, digits, dots, underscores and hyphens, at most 249 of them", name)
	}
	return nil
}

// backoff pauses, longer each time.
type backoff struct {
	first time.Duration
	n     int
}

func (b *backoff) pause(ctx context.Context) {
	d := min(b.first<<min(b.n, 10), max(time.Second, b.first))
	b.n++
	pause.For(ctx, d)
}
