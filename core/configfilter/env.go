package configfilter

import (
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Env is the catalogue entry of the filter that knows the environment.
var Env = core.Type[conf.Filter]{
	Name: "env", Doc: "The value of a key is that of the environment variable of its name.",
	Aliases: []string{"org.apache.flume.configfilter.EnvironmentVariableConfigFilter"},
	New:     func() conf.Filter { return new(env) },
}

type env struct{}

// Keys implements conf.Binder.
func (*env) Keys(*conf.Keys) {}

// Value implements conf.Filter.
func (*env) Value(key string, env func(string) (string, bool)) (string, bool, error) {
	value, ok := env(key)
	return value, ok, nil
}
