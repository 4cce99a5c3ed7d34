package tlsconf

import (
	"crypto/tls"
	"slices"
	"strings"
)

// policy is what the lists of protocols and cipher suites come to.
type policy struct {
	min, max uint16
	suites   []uint16 // of TLS 1.2; nil: Go's choice
	warnings []complaint
	err      *complaint
}

type complaint struct{ key, text string }

// oldProtocols are names that a list may have and that are never offered.
var oldProtocols = []string{"SSLv2Hello", "SSLv3", "TLSv1", "TLSv1.1"}

func has(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

func (c *Config) policy() policy {
	var p policy
	protocol := func(name string) bool {
		return (len(c.includeProtocols) == 0 || has(c.includeProtocols, name)) && !has(c.excludeProtocols, name)
	}
	on12, on13 := protocol("TLSv1.2"), protocol("TLSv1.3")
	for _, name := range c.includeProtocols {
		switch {
		case has(oldProtocols, name):
			p.warn("include-protocols", name+" is not safe and is not offered")
		case !strings.EqualFold(name, "TLSv1.2") && !strings.EqualFold(name, "TLSv1.3"):
			p.warn("include-protocols", name+" is not a protocol")
		}
	}
	if !on12 && !on13 {
		p.err = &complaint{"include-protocols", "leave nothing to offer, less exclude-protocols: TLSv1.2 and TLSv1.3 can be had"}
		return p
	}
	p.cipherSuites(c, &on12, &on13)
	if !on12 && !on13 {
		p.err = &complaint{"include-cipher-suites", "leave no cipher suite of the protocols that are offered"}
		return p
	}
	p.min, p.max = tls.VersionTLS12, tls.VersionTLS13
	if !on12 {
		p.min = tls.VersionTLS13
	}
	if !on13 {
		p.max = tls.VersionTLS12
	}
	return p
}

func (p *policy) warn(key, text string) { p.warnings = append(p.warnings, complaint{key, text}) }

// cipherSuites applies the lists of suites; a protocol that loses all its suites is switched off.
func (p *policy) cipherSuites(c *Config, on12, on13 *bool) {
	if len(c.includeSuites) == 0 && len(c.excludeSuites) == 0 {
		return
	}
	include, exclude := p.names("include-cipher-suites", c.includeSuites), suiteIDs(c.excludeSuites)
	all13, kept13 := 0, 0
	p.suites = []uint16{}
	for _, s := range offered(include) {
		kept := (len(c.includeSuites) == 0 || slices.Contains(include, s.ID)) && !slices.Contains(exclude, s.ID)
		if s.SupportedVersions[0] == tls.VersionTLS13 {
			all13++
			if kept {
				kept13++
			}
		} else if kept {
			p.suites = append(p.suites, s.ID)
		}
	}
	*on12 = *on12 && len(p.suites) > 0
	if *on13 && kept13 < all13 {
		*on13 = false
		if kept13 > 0 {
			key := "exclude-cipher-suites"
			if len(c.includeSuites) > 0 {
				key = "include-cipher-suites"
			}
			p.warn(key, "TLSv1.3 is not offered: its three cipher suites can not be had singly")
		}
	}
}

// offered are the suites that may be had: the safe ones, and of the others
// those with RSA key exchange and AES that Java still offers, if they are asked for by name.
func offered(include []uint16) []*tls.CipherSuite {
	list := slices.Clone(tls.CipherSuites())
	for _, s := range tls.InsecureCipherSuites() {
		if strings.HasPrefix(s.Name, "TLS_RSA_WITH_AES_") && slices.Contains(include, s.ID) {
			list = append(list, s)
		}
	}
	return list
}

// names are the suites that can be offered; the others are complained of.
func (p *policy) names(key string, names []string) []uint16 {
	ids := suiteIDs(names)
	can := offered(ids)
	for _, name := range names {
		one := suiteIDs([]string{name})
		if len(one) == 0 || !slices.ContainsFunc(can, func(s *tls.CipherSuite) bool { return s.ID == one[0] }) {
			p.warn(key, name+" is not safe, or not known here, and is not offered")
		}
	}
	return ids
}

// suiteIDs translates the names it knows.
func suiteIDs(names []string) []uint16 {
	var ids []uint16
	for _, name := range names {
		name = strings.ToUpper(name)
		if rest, old := strings.CutPrefix(name, "SSL_"); old {
			name = "TLS_" + rest
		}
		for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
			for _, s := range list {
				if s.Name == name {
					ids = append(ids, s.ID)
				}
			}
		}
	}
	return ids
}
