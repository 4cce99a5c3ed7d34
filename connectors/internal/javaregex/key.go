package javaregex

import (
	"fmt"

	"github.com/millrace/millrace/core/conf"
)

// Key binds a key that is a Java regular expression; with an empty default *re is nil.
func Key(k *conf.Keys, re **Regexp, name, def, doc string) *conf.Key {
	return key(k, re, name, def, doc, Compile)
}

// WholeKey is [Key] for an expression that must match a whole text.
func WholeKey(k *conf.Keys, re **Regexp, name, def, doc string) *conf.Key {
	return key(k, re, name, def, doc, CompileWhole)
}

func key(k *conf.Keys, re **Regexp, name, def, doc string, compile func(string) (*Regexp, error)) *conf.Key {
	*re = nil
	if def != "" {
		var err error
		if *re, err = compile(def); err != nil {
			panic(fmt.Sprintf("javaregex: default of %s: %s %v", name, def, err))
		}
	}
	return k.Func(name, "Java regular expression", def, doc, func(text string) error {
		got, err := compile(text)
		if err == nil {
			*re = got
		}
		return err
	})
}
