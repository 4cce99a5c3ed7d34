package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	krb "github.com/jcmturner/gokrb5/v8/client"
	gss "github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/millrace/millrace/connectors/internal/kerberos"
)

// gssapi is the login by Kerberos: SASL GSSAPI (RFC 4752) with the tokens of RFC 4121, without a security
// layer of its own, which Kafka has none of.
type gssapi struct {
	login   kerberos.Login
	service string // of the brokers' principals, service/host

	mu     sync.Mutex
	client *krb.Client // with a key table; nil: not logged in yet
}

// Name implements sasl.Mechanism.
func (g *gssapi) Name() string { return "GSSAPI" }

// Start implements sasl.Mechanism: it sends a ticket for the broker.
func (g *gssapi) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	c, ticket, key, err := g.ticket(g.service + "/" + sasl.MetadataFromContext(ctx).Host)
	if err != nil {
		return nil, nil, err
	}
	return greet(c, ticket, key)
}

// greet begins a session with a ticket for the broker.
func greet(c *krb.Client, ticket messages.Ticket, key types.EncryptionKey) (sasl.StateMachine, []byte, error) {
	token, err := spnego.NewKRB5TokenAPREQ(c, ticket, key, []int{gss.ContextFlagInteg}, nil)
	if err != nil {
		return nil, nil, err
	}
	first, err := token.Marshal()
	return &gssSession{key: key}, first, err
}

// ticket gets one for a broker. After an error the next one begins with a new login: the key table may be a new one.
func (g *gssapi) ticket(name string) (*krb.Client, messages.Ticket, types.EncryptionKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fail := func(err error) (*krb.Client, messages.Ticket, types.EncryptionKey, error) {
		return nil, messages.Ticket{}, types.EncryptionKey{}, err
	}
	c := g.client
	if c == nil {
		var err error
		if c, err = g.login.Client(); err != nil {
			return fail(err)
		}
		if g.login.Keytab != "" { // a cache is read each time: who keeps it may have got new tickets
			g.client = c
		}
	}
	ticket, key, err := c.GetServiceTicket(name)
	if err != nil {
		g.forget()
		return fail(fmt.Errorf("get a ticket for %s: %w", name, err))
	}
	return c, ticket, key, nil
}

// forget ends the login.
func (g *gssapi) forget() {
	if g.client != nil {
		g.client.Destroy()
		g.client = nil
	}
}

// end ends the login for good.
func (g *gssapi) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget()
}

// gssSession is one login: what it has sent is the ticket.
type gssSession struct {
	key    types.EncryptionKey // of the ticket, which only the broker has besides
	agreed bool                // the broker's offer was answered
}

// noLayer is the security layer none, of those that RFC 4752 counts.
const noLayer = 1

// Next implements sasl.StateMachine.
func (s *gssSession) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	if s.agreed {
		return true, nil, nil
	}
	if len(challenge) == 0 { // the ticket was taken, and the offer is still to come
		return false, []byte{}, nil
	}
	var offer gss.WrapToken
	if err := offer.Unmarshal(challenge, true); err != nil {
		return false, nil, fmt.Errorf("the broker's answer: %w", err)
	}
	// Whoever made this has read the ticket.
	if _, err := offer.Verify(s.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil {
		return false, nil, fmt.Errorf("the broker's answer: %w", err)
	}
	if len(offer.Payload) != 4 || offer.Payload[0]&noLayer == 0 {
		return false, nil, errors.New("the broker wants a security layer of GSSAPI: use SASL_SSL")
	}
	answer, err := gss.NewInitiatorWrapToken([]byte{noLayer, 0, 0, 0}, s.key)
	if err != nil {
		return false, nil, err
	}
	s.agreed = true
	response, err = answer.Marshal()
	return false, response, err
}
