package inject

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// user is the one that the sidecar runs as: the application's, so that it may
// read what that writes, unless that is root.
func (a *adder) user() int64 {
	if a.o.RunAs != 0 {
		return a.o.RunAs
	}
	for _, c := range append(slices.Clone(a.apps), a.spec) {
		var n int64
		if p := c.get("securityContext").get("runAsUser"); p.node != nil && p.node.Decode(&n) == nil && n > 0 {
			return n
		}
		if c.get("securityContext").get("runAsUser").text() == "0" {
			break // the container's word counts before the pod's
		}
	}
	return defaultUser
}

// sidecar is the container: within the pod security level "restricted", and with the probes of the image's own command.
func (a *adder) sidecar() *yaml.Node {
	var restart, lifecycle, pull *yaml.Node
	if a.o.Classic {
		lifecycle = object(field{"preStop", execute("sleep", classicWait.String())})
	} else {
		restart = str("Always")
	}
	if a.o.PullPolicy != "" {
		pull = str(a.o.PullPolicy)
	}
	return object(
		field{"name", str(containerName)},
		field{"image", str(a.o.Image)},
		field{"imagePullPolicy", pull},
		field{"restartPolicy", restart},
		field{"args", words("agent")},
		field{"env", a.env()},
		field{"envFrom", a.envFrom()},
		field{"ports", a.ports()},
		// The application starts when every source is open, and the sidecar has all the time that a large channel takes.
		field{"startupProbe", probe(execute("healthcheck", "--ready"), 1, 300)},
		field{"readinessProbe", probe(execute("healthcheck", "--ready"), 10, 3)},
		field{"livenessProbe", probe(execute("healthcheck"), 10, 6)},
		field{"lifecycle", lifecycle},
		field{"resources", a.resources()},
		field{"securityContext", object(
			field{"allowPrivilegeEscalation", yes(false)},
			field{"capabilities", object(field{"drop", words("ALL")})},
			field{"readOnlyRootFilesystem", yes(true)},
			field{"runAsNonRoot", yes(true)},
			field{"runAsUser", num(a.user())},
			field{"runAsGroup", num(a.user())},
			field{"seccompProfile", object(field{"type", str("RuntimeDefault")})},
		)},
		field{"volumeMounts", list(a.mounts...)},
	)
}

// execute runs the image's only file.
func execute(args ...string) *yaml.Node {
	return object(field{"exec", object(field{"command", words(append([]string{"/millrace"}, args...)...)})})
}

func probe(p *yaml.Node, period, failures int64) *yaml.Node {
	p.Content = append(p.Content,
		str("periodSeconds"), num(period), str("timeoutSeconds"), num(5), str("failureThreshold"), num(failures))
	return p
}

func (a *adder) env() *yaml.Node {
	files := ConfigDir + "/" + configFile
	if a.o.Config != nil && a.o.HeadersFile() != "" {
		files += ":" + ConfigDir + "/" + headersFile
	}
	vars := []EnvVar{
		{"MILLRACE_NAME", a.o.Agent},
		{"MILLRACE_CONF_FILE", files},
		{"MILLRACE_STATE_DIR", StateDir},
		{"MILLRACE_ADMIN", a.o.Admin},
		{"MILLRACE_DRAIN_TIMEOUT", a.o.Drain.String()},
		{"MILLRACE_LOG", "json"},
		{"HOME", StateDir},
	}
	var all []*yaml.Node
	for _, v := range vars {
		if v.Value != "" && !slices.ContainsFunc(a.o.Env, func(e EnvVar) bool { return e.Name == v.Name }) {
			all = append(all, object(field{"name", str(v.Name)}, field{"value", str(v.Value)}))
		}
	}
	var fields []string
	for _, h := range a.o.Headers {
		path, _ := podField(h.Field)
		if slices.Contains(fields, path) {
			continue
		}
		fields = append(fields, path)
		all = append(all, object(field{"name", str(h.variable())},
			field{"valueFrom", object(field{"fieldRef", object(field{"fieldPath", str(path)})})}))
	}
	for _, e := range a.o.Env {
		// A dollar sign before a parenthesis is Kubernetes' own.
		all = append(all, object(field{"name", str(e.Name)}, field{"value", str(strings.ReplaceAll(e.Value, "$(", "$$("))}))
	}
	return list(all...)
}

func (a *adder) envFrom() *yaml.Node {
	var all []*yaml.Node
	for _, f := range a.o.EnvFrom {
		kind := map[string]string{"secret": "secretRef", "configmap": "configMapRef"}[f.Kind]
		all = append(all, object(field{kind, object(field{"name", str(f.Name)})}))
	}
	return list(all...)
}

// ports tells of the admin port where it can be reached.
func (a *adder) ports() *yaml.Node {
	host := a.o.Admin[:strings.LastIndexByte(a.o.Admin, ':')]
	port, err := adminPort(a.o.Admin)
	if err != nil || host == "localhost" || strings.HasPrefix(host, "127.") || host == "[::1]" {
		return nil
	}
	return list(object(field{"name", str("millrace-admin")}, field{"containerPort", num(port)}))
}

func (a *adder) resources() *yaml.Node {
	amounts := func(all []Quantity) *yaml.Node {
		if len(all) == 0 {
			return nil
		}
		m := object()
		for _, q := range all {
			m.Content = append(m.Content, str(q.Resource), str(q.Amount))
		}
		return m
	}
	r := object(field{"requests", amounts(a.o.Requests)}, field{"limits", amounts(a.o.Limits)})
	if len(r.Content) == 0 {
		return nil
	}
	return r
}
