// Package connectors is the root of the connectors: one folder a system, and
// what they share in internal. It holds what the program sets for all of them.
package connectors

import "github.com/millrace/millrace/connectors/internal/tlsconf"

// SetDefaults takes what holds for all connectors where their own keys are
// absent from system properties (-Dname=value) and the environment: Flume's
// global TLS properties. The program calls it once, before it reads a
// configuration. Both look-ups answer "" for what is not set.
func SetDefaults(property, env func(name string) string) {
	tlsconf.SetDefaults(tlsconf.ReadDefaults(property, env))
}
