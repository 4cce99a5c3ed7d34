package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/millrace/millrace/connectors/internal/kerberos"
)

// logins are the values of sasl.mechanism, with the login module of Java's that goes with each.
var logins = map[string]string{
	"PLAIN":         "org.apache.kafka.common.security.plain.PlainLoginModule",
	"SCRAM-SHA-256": scramModule,
	"SCRAM-SHA-512": scramModule,
	"GSSAPI":        "com.sun.security.auth.module.Krb5LoginModule",
	"OAUTHBEARER":   "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule",
}

const scramModule = "org.apache.kafka.common.security.scram.ScramLoginModule"

// login makes what is said to a broker of sasl.mechanism and sasl.jaas.config.
func (c *connection) login() (sasl.Mechanism, error) {
	module, options, err := readJAAS(c.jaas)
	if err != nil {
		return nil, err
	}
	want := logins[c.mechanism]
	if bare := module[strings.LastIndexByte(module, '.')+1:]; !strings.HasSuffix(want, "."+bare) {
		return nil, fmt.Errorf("is for %s, and sasl.mechanism %s wants %s", module, c.mechanism, want)
	}
	switch c.mechanism {
	case "GSSAPI":
		return c.kerberos(options)
	case "OAUTHBEARER":
		return c.bearer(options)
	}
	user, password := options["username"], options["password"]
	if user == "" || password == "" {
		return nil, errors.New("lacks username or password")
	}
	switch c.mechanism {
	case "PLAIN":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, user, password)
	}
	return scram.Mechanism(scram.SHA512, user, password)
}

// kerberos makes the login of Krb5LoginModule's options.
func (c *connection) kerberos(options map[string]string) (sasl.Mechanism, error) {
	g := &gssapi{service: cmp.Or(c.service, options["serviceName"]), login: kerberos.Login{Principal: options["principal"], Conf: c.krb5}}
	keytab := strings.TrimPrefix(strings.TrimPrefix(options["keyTab"], "file://"), "FILE:")
	switch {
	case g.service == "":
		return nil, fmt.Errorf("the brokers' service name is required: %ssasl.kerberos.service.name, which is mostly kafka", c.prefix)
	case options["useTicketCache"] == "true":
		g.login.Cache = strings.TrimPrefix(cmp.Or(options["ticketCache"], kerberos.DefaultCache()), "FILE:")
	case keytab == "":
		return nil, errors.New("lacks keyTab, or useTicketCache=true: nobody can be asked for a password")
	case g.login.Principal == "":
		return nil, errors.New("lacks principal")
	default:
		g.login.Keytab = keytab
	}
	return g, nil
}

// bearer makes the login of OAuthBearerLoginModule's options.
func (c *connection) bearer(options map[string]string) (sasl.Mechanism, error) {
	o := &oauth{
		endpoint: c.tokens, id: cmp.Or(c.oauthID, options["clientId"]), secret: cmp.Or(c.oauthSecret, options["clientSecret"]), scope: cmp.Or(c.scope, options["scope"]),
		claims: map[string]string{}, extensions: map[string]string{}, lifetime: time.Hour, now: time.Now,
	}
	for name, value := range options {
		if to, ok := strings.CutPrefix(name, "unsecuredLoginStringClaim_"); ok {
			o.claims[to] = value
		}
		for _, prefix := range []string{"extension_", "unsecuredLoginExtension_"} {
			if to, ok := strings.CutPrefix(name, prefix); ok {
				if to == "auth" || strings.ContainsAny(to, "\x01=") || strings.ContainsRune(value, 1) {
					return nil, fmt.Errorf("has %s, which is not the name of an extension", name)
				}
				o.extensions[to] = value
			}
		}
	}
	web := strings.HasPrefix(o.endpoint, "http://") || strings.HasPrefix(o.endpoint, "https://")
	switch {
	case o.endpoint == "" && len(o.claims) == 0:
		return nil, fmt.Errorf("lacks unsecuredLoginStringClaim_sub; or say in %ssasl.oauthbearer.token.endpoint.url where tokens come from", c.prefix)
	case web && (o.id == "" || o.secret == ""):
		return nil, errors.New("lacks clientId or clientSecret, which the endpoint wants")
	case o.endpoint != "" && !web && !strings.HasPrefix(o.endpoint, "file:///"):
		return nil, fmt.Errorf("goes with %ssasl.oauthbearer.token.endpoint.url, which is neither http, https nor file:///", c.prefix)
	}
	return o, nil
}

// readJAAS reads one login module as in a JAAS file: its class, a flag, options
// as key=value with the value in quotes or not, and a semicolon.
func readJAAS(text string) (module string, options map[string]string, err error) {
	words, err := jaasWords(text)
	if err != nil {
		return "", nil, err
	}
	if len(words) < 3 || words[len(words)-1] != ";" {
		return "", nil, errors.New("is not a login module: class, required, options, and a semicolon at the end")
	}
	module, words = words[0], words[1:len(words)-1]
	switch strings.ToLower(words[0]) {
	case "required", "requisite", "sufficient", "optional":
	default:
		return "", nil, errors.New("has no flag, such as required, behind the class")
	}
	options = make(map[string]string)
	for words = words[1:]; len(words) > 0; words = words[3:] {
		if len(words) < 3 || words[1] != "=" {
			return "", nil, errors.New("has an option that is not key=value")
		}
		options[words[0]] = words[2]
	}
	return module, options, nil
}

// jaasWords cuts a text into words, quoted texts without their quotes, and the
// signs = and ;.
func jaasWords(text string) (words []string, err error) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch q := text[0]; q {
		case '=', ';':
			words, text = append(words, text[:1]), text[1:]
		case '"', '\'':
			var word strings.Builder
			i := 1
			for ; i < len(text) && text[i] != q; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word.WriteByte(text[i])
			}
			if i == len(text) {
				return nil, errors.New("has a quotation that does not end")
			}
			words, text = append(words, word.String()), text[i+1:]
		default:
			n := strings.IndexAny(text, "=;\"' \t\r\n")
			if n < 0 {
				n = len(text)
			}
			words, text = append(words, text[:n]), text[n:]
		}
	}
	return words, nil
}
