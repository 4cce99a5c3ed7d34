// Package configfilter holds the config filters: they give values of a
// configuration that do not stand in it, such as passwords.
//
//	a1.configfilters = secrets
//	a1.configfilters.secrets.type = file
//	a1.configfilters.secrets.dir = /run/secrets
//	a1.sources.in.keystore-password = ${secrets['keystore-password']}
//
// Package conf asks them while it reads the configuration, also when it is only
// validated. What they give is never logged or shown.
package configfilter
