package kafka

import (
	"strings"
	"testing"
	"time"

	krb "github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	gss "github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/millrace/millrace/connectors/internal/kerberos"
)

const realm = "EXAMPLE.TEST"

// offer is what a broker answers to a ticket: its security layers.
func offer(t testing.TB, key types.EncryptionKey, payload []byte) []byte {
	t.Helper()
	w, err := gss.NewInitiatorWrapToken(payload, key)
	if err != nil {
		t.Fatal(err)
	}
	w.Flags, w.CheckSum = 1, nil // from the acceptor
	if err := w.SetCheckSum(key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil {
		t.Fatal(err)
	}
	b, err := w.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A broker that holds the service's key takes the ticket, and its offer of no layer is answered with just that.
func TestGSSAPI(t *testing.T) {
	kt := keytab.New()
	if err := kt.AddEntry("kafka/localhost", realm, "secret", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	me := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "flume/localhost")
	broker := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "kafka/localhost")
	now := time.Now()
	ticket, key, err := messages.NewTicket(me, realm, broker, realm, types.NewKrbFlags(), kt, etypeID.AES256_CTS_HMAC_SHA1_96, 1, now, now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s, first, err := greet(krb.NewWithPassword("flume/localhost", realm, "", config.New()), ticket, key)
	if err != nil {
		t.Fatal(err)
	}
	var token spnego.KRB5Token
	if err := token.Unmarshal(first); err != nil || !token.IsAPReq() {
		t.Fatalf("%v", err)
	}
	if ok, err := token.APReq.Verify(kt, time.Minute, types.HostAddress{}, &broker); err != nil || !ok {
		t.Fatalf("the broker does not take the ticket: %v", err)
	}
	if done, say, err := s.Next(t.Context(), nil); done || err != nil || say == nil || len(say) > 0 {
		t.Errorf("an empty answer: %v %q %v", done, say, err)
	}
	done, say, err := s.Next(t.Context(), offer(t, key, []byte{1, 0, 0, 0}))
	var answer gss.WrapToken
	if done || err != nil || answer.Unmarshal(say, false) != nil || string(answer.Payload) != "\x01\x00\x00\x00" {
		t.Fatalf("%v %v %x", done, err, say)
	}
	if ok, err := answer.Verify(key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil || !ok {
		t.Error(err)
	}
	if done, _, err := s.Next(t.Context(), nil); !done || err != nil {
		t.Errorf("%v %v", done, err)
	}
}

func TestGSSAPIRefuses(t *testing.T) {
	key := types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: make([]byte, 32)}
	other := types.EncryptionKey{KeyType: key.KeyType, KeyValue: []byte(strings.Repeat("x", 32))}
	for name, c := range map[string]struct {
		challenge []byte
		want      string
	}{
		"who could not read the ticket": {offer(t, other, []byte{1, 0, 0, 0}), "checksum"},
		"a layer":                       {offer(t, key, []byte{6, 0, 1, 0}), "use SASL_SSL"},
		"a short offer":                 {offer(t, key, []byte{1}), "use SASL_SSL"},
		"noise":                         {[]byte("noise"), "the broker's answer"},
	} {
		if _, _, err := (&gssSession{key: key}).Next(t.Context(), c.challenge); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := &gssapi{service: "kafka", login: kerberos.Login{Keytab: "/absent", Principal: "flume/h@R", Conf: "/absent.conf"}}
	if _, _, _, err := g.ticket("kafka/localhost"); err == nil || !strings.Contains(err.Error(), "/absent.conf") {
		t.Error(err)
	}
}

func FuzzGSSAPIOffer(f *testing.F) {
	key := types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: make([]byte, 32)}
	f.Add(offer(f, key, []byte{1, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, challenge []byte) {
		_, _, _ = (&gssSession{key: key}).Next(t.Context(), challenge) // it does not panic
	})
}
