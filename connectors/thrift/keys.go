package thrift

import (
	"errors"
	"strings"

	"github.com/millrace/millrace/core/conf"
)

// protocolKey binds the key protocol. Flume takes the words in any case, and
// then only the exact word binary for the binary protocol.
func protocolKey(k *conf.Keys, compact *bool, doc string) *conf.Key {
	*compact = true
	word := ""
	k.Check(func(r *conf.Report) {
		if *compact && strings.EqualFold(word, "binary") {
			r.Warn("protocol", "%q means compact, as in Flume: only binary in small letters is the binary protocol", word)
		}
	})
	return k.Func("protocol", "string", "compact", doc, func(text string) error {
		if !strings.EqualFold(text, "compact") && !strings.EqualFold(text, "binary") {
			return errors.New("is not one of compact, binary")
		}
		word, *compact = text, text != "binary"
		return nil
	})
}

// kerberosKeys binds the keys of Kerberos, which has to be off.
func kerberosKeys(k *conf.Keys, beside ...string) {
	on := false
	k.Bool(&on, "kerberos", false, "Must be false: Kerberos is not supported. Use ssl, and client certificates where clients have to prove who they are.")
	for _, key := range beside {
		k.Inert(key, "has no effect without kerberos = true")
	}
	k.Check(func(r *conf.Report) {
		if on {
			r.Error("kerberos", "is not supported with thrift: set it to false at both ends and use ssl = true, with client-auth = need at the source where clients have to prove who they are")
		}
	})
}

// hostsKey refuses the key that would lead Flume's client elsewhere than hostname does.
func hostsKey(k *conf.Keys) {
	k.Func("hosts", "words", "", "Not taken: use a sink for each host, and a sink group with processor.type failover or load_balance.", func(string) error {
		return errors.New("is not taken by this sink: name the host in hostname and port, and use a sink for each host in a sink group with processor.type failover or load_balance")
	})
}
