package inject

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Where the sidecar finds and keeps its files.
const (
	ConfigDir = "/etc/millrace"     // the ConfigMap
	StateDir  = "/var/lib/millrace" // the only place that it writes to, but for shared ones
)

// Names of files in the ConfigMap.
const (
	configFile  = "flume.conf"
	headersFile = "headers.conf"
)

// Options say what is added. The zero value is not usable: start from [Defaults].
type Options struct {
	Image      string
	PullPolicy string  // empty: Kubernetes chooses
	Agent      string  // the agent's name in the configuration; may be left out where that has one
	Config     []byte  // the text of flume.conf, for a ConfigMap of our own
	ConfigMap  string  // one that is there already, with a key flume.conf, instead of Config
	Agents     []Agent // what Config has
	Headers    []Header
	Containers []string  // the application's; empty: the default one
	LogPaths   []LogPath // nil: those of the agent; empty: none
	State      State
	Drain      time.Duration
	RunAs      int64 // user and group; 0: that of the application if it is not root, else 65532
	Requests   []Quantity
	Limits     []Quantity
	Env        []EnvVar // more of the sidecar's environment
	EnvFrom    []EnvFrom
	Mounts     []Mount // volumes of the pod that the sidecar gets as well
	Admin      string  // address of the admin server; empty: :9700, on hostNetwork 127.0.0.1:9700
	Classic    bool    // an ordinary container, for clusters before native sidecars
}

// Defaults are what holds where nobody says otherwise. The image is that of the version given.
func Defaults(version string) Options {
	image := "millrace"
	if releaseVersion.MatchString(version) {
		image += ":" + strings.TrimPrefix(version, "v")
	}
	return Options{
		Image: image, Drain: 25 * time.Second,
		Headers:  []Header{{"pod", "pod"}, {"namespace", "namespace"}, {"node", "node"}},
		Requests: []Quantity{{"cpu", "50m"}, {"memory", "64Mi"}},
		Limits:   []Quantity{{"memory", "256Mi"}},
	}
}

var releaseVersion = regexp.MustCompile(`^v?\d+\.\d+\.\d+$`)

// Agent is what a pod must know of an agent of the configuration.
type Agent struct {
	Name     string
	Sources  []SourceChain
	LogPaths []LogPath // that its sources read
	Writes   []Written
}

// Written is a directory that the configuration has the sidecar write to.
type Written struct{ Dir, Where string } // Where is file:line: key

// SourceChain is a source of the configuration with the names of its interceptors, in order.
type SourceChain struct {
	Name         string
	Interceptors []string
}

// Header is an event header with the value of a field of the pod: pod,
// namespace, node, ip, uid, service-account, label:KEY or annotation:KEY.
type Header struct{ Name, Field string }

// LogPath is a directory that the application writes into and the sidecar reads.
type LogPath struct {
	Dir   string
	Write bool // the sidecar renames or removes files there
}

// State is the volume of positions and channels.
type State struct {
	Kind         string // "" or emptyDir, pvc
	Claim        string // of pvc: one that is there; empty: one for each pod of a StatefulSet
	Size         string // limit of emptyDir, request of a claim
	StorageClass string
}

// Quantity is an amount of a resource.
type Quantity struct{ Resource, Amount string }

// EnvVar is an environment variable with its value.
type EnvVar struct{ Name, Value string }

// EnvFrom names a Secret or ConfigMap whose keys are environment variables.
type EnvFrom struct{ Kind, Name string }

// Mount is a volume of the pod and where the sidecar sees it.
type Mount struct {
	Volume, Dir string
	ReadOnly    bool
}

// Setting is one option by its name: --image is also the annotation millrace/image of a pod.
type Setting struct {
	Name, Arg, Doc string
	Annotation     bool // may be given for one pod
	Set            func(o *Options, text string) error
}

// Settings lists the options that have a text form, in the order that help shows.
func Settings() []Setting {
	return []Setting{
		{"image", "IMAGE", "the sidecar's image", true, func(o *Options, text string) (err error) { o.Image, err = nonEmpty(text); return err }},
		{"image-pull-policy", "POLICY", "Always, IfNotPresent or Never (default: Kubernetes chooses by the tag)", true, setPullPolicy},
		{
			"configmap", "NAME", "a ConfigMap that is there, with a key flume.conf, instead of --config", true,
			func(o *Options, text string) (err error) { o.ConfigMap, err = dnsName(text); return err },
		},
		{
			"name", "NAME", "the agent's name; may be left out where the configuration has one agent", true,
			func(o *Options, text string) (err error) { o.Agent, err = nonEmpty(text); return err },
		},
		{
			"container", "NAMES", "the application's containers, separated by commas (default: the pod's default container, else its first)", true,
			func(o *Options, text string) (err error) { o.Containers, err = commaList(text, dnsName); return err },
		},
		{"log-path", "DIRS", "directories of log files to share with the application, separated by commas; DIR:rw lets the sidecar rename and remove files (default: what the configuration's taildir, spooldir and tail -F read; none for none)", true, setLogPaths},
		{"state", "VOLUME", "the volume of positions and channels: emptyDir, emptyDir=SIZE, pvc=NAME, or for each pod of a StatefulSet pvc, with size=SIZE[,class=NAME] (default emptyDir)", true, setState},
		{"headers", "LIST", "event headers from the pod: [HEADER=]FIELD, separated by commas, FIELD one of pod, namespace, node, ip, uid, service-account, label:KEY, annotation:KEY; or none (default pod,namespace,node)", true, setHeaders},
		{"drain-timeout", "TIME", "how long the sidecar goes on delivering when the application has ended (default 25s)", true, setDrain},
		{"run-as-user", "UID", "the sidecar's user and group (default: the application's if it is not root, else 65532)", true, setRunAs},
		{
			"requests", "LIST", "resource requests (default cpu=50m,memory=64Mi)", true,
			func(o *Options, text string) (err error) { o.Requests, err = quantities(text); return err },
		},
		{
			"limits", "LIST", "resource limits (default memory=256Mi)", true,
			func(o *Options, text string) (err error) { o.Limits, err = quantities(text); return err },
		},
		{"admin", "ADDR", "where the admin server listens (default :9700, on the host's network 127.0.0.1:9700)", true, setAdmin},
	}
}

// Lists are the options that are given once for each of their values.
func Lists() []Setting {
	return []Setting{
		{"env", "NAME=VALUE", "an environment variable of the sidecar, for ${env:NAME} in the configuration", false, addEnv},
		{"env-from", "KIND=NAME", "a secret or configmap whose keys are environment variables of the sidecar", false, addEnvFrom},
		{"mount", "VOLUME=DIR[:ro]", "a volume of the pod that the sidecar sees as well", false, addMount},
	}
}

func nonEmpty(text string) (string, error) {
	if strings.TrimSpace(text) == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", errors.New("must be one word")
	}
	return text, nil
}

var dnsPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func dnsName(text string) (string, error) {
	if !dnsPattern.MatchString(text) {
		return "", errors.New("is no name of Kubernetes: lower case letters, digits, - and . only")
	}
	return text, nil
}

// commaList splits at commas and reads each part.
func commaList[T any](text string, read func(string) (T, error)) ([]T, error) {
	var all []T
	for part := range strings.SplitSeq(text, ",") {
		v, err := read(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func setPullPolicy(o *Options, text string) error {
	if !slices.Contains([]string{"Always", "IfNotPresent", "Never"}, text) {
		return errors.New("is not one of Always, IfNotPresent, Never")
	}
	o.PullPolicy = text
	return nil
}

func directory(text string) (string, error) {
	if !path.IsAbs(text) || path.Clean(text) == "/" || strings.Contains(text, ":") {
		return "", errors.New("must be an absolute path below /")
	}
	return path.Clean(text), nil
}

func setLogPaths(o *Options, text string) (err error) {
	if text == "none" {
		o.LogPaths = []LogPath{}
		return nil
	}
	o.LogPaths, err = commaList(text, func(s string) (LogPath, error) {
		s, write := strings.CutSuffix(s, ":rw")
		dir, err := directory(s)
		return LogPath{dir, write}, err
	})
	return err
}

func setState(o *Options, text string) error {
	var s State
	for i, part := range strings.Split(text, ",") {
		key, value, given := strings.Cut(part, "=")
		var err error
		switch {
		case i == 0 && key == "emptyDir":
			s.Kind, s.Size = key, value
			if given {
				err = quantity(value)
			}
		case i == 0 && key == "pvc":
			s.Kind = key
			if given {
				s.Claim, err = dnsName(value)
			}
		case i > 0 && key == "size" && s.Kind == "pvc" && s.Claim == "":
			s.Size, err = value, quantity(value)
		case i > 0 && key == "class" && s.Kind == "pvc" && s.Claim == "":
			s.StorageClass, err = dnsName(value)
		default:
			err = errors.New("is not emptyDir, emptyDir=SIZE, pvc=NAME or pvc,size=SIZE[,class=NAME]")
		}
		if err != nil {
			return err
		}
	}
	if s.Kind == "pvc" && s.Claim == "" && s.Size == "" {
		return errors.New("needs the name of a claim, pvc=NAME, or the size of new ones, pvc,size=1Gi")
	}
	o.State = s
	return nil
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

func setHeaders(o *Options, text string) (err error) {
	if text == "none" {
		o.Headers = nil
		return nil
	}
	o.Headers, err = commaList(text, func(s string) (Header, error) {
		name, of, given := strings.Cut(s, "=")
		if !given {
			of = name
			if _, key, ok := strings.Cut(name, ":"); ok {
				name = key
			}
		}
		if _, ok := podField(of); !ok || !headerName.MatchString(name) {
			return Header{}, fmt.Errorf("%s is none of pod, namespace, node, ip, uid, service-account, label:KEY, annotation:KEY", of)
		}
		return Header{name, of}, nil
	})
	seen, variables := map[string]bool{}, map[string]string{}
	for _, h := range o.Headers {
		v := h.variable()
		if seen[h.Name] {
			return fmt.Errorf("gives the header %s twice", h.Name)
		}
		if other, ok := variables[v]; ok && other != h.Field {
			return fmt.Errorf("%s and %s would both be the environment variable %s", other, h.Field, v)
		}
		seen[h.Name], variables[v] = true, h.Field
	}
	return err
}

var qualifiedName = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// podField is the downward API's name of a field of the pod.
func podField(of string) (string, bool) {
	switch of {
	case "pod":
		return "metadata.name", true
	case "namespace":
		return "metadata.namespace", true
	case "uid":
		return "metadata.uid", true
	case "node":
		return "spec.nodeName", true
	case "service-account":
		return "spec.serviceAccountName", true
	case "ip":
		return "status.podIP", true
	}
	kind, key, _ := strings.Cut(of, ":")
	if (kind != "label" && kind != "annotation") || !qualifiedName.MatchString(key) {
		return "", false
	}
	return "metadata." + kind + "s['" + key + "']", true
}

// variable is the environment variable that carries the header's value.
func (h Header) variable() string {
	switch h.Field {
	case "pod", "namespace", "ip", "uid":
		return "POD_" + map[string]string{"pod": "NAME", "namespace": "NAMESPACE", "ip": "IP", "uid": "UID"}[h.Field]
	case "node":
		return "NODE_NAME"
	case "service-account":
		return "SERVICE_ACCOUNT"
	}
	return "POD_" + strings.ToUpper(regexp.MustCompile(`[^A-Za-z0-9]`).ReplaceAllString(h.Field, "_"))
}

func setDrain(o *Options, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 24*time.Hour {
		return errors.New("is not a duration such as 25s")
	}
	o.Drain = d
	return nil
}

func setRunAs(o *Options, text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return errors.New("is not the number of a user; root is refused")
	}
	o.RunAs = n
	return nil
}

var quantityPattern = regexp.MustCompile(`^\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$`)

func quantity(text string) error {
	if !quantityPattern.MatchString(text) {
		return errors.New("is no quantity such as 100m or 64Mi")
	}
	return nil
}

func quantities(text string) ([]Quantity, error) {
	if text == "none" {
		return nil, nil
	}
	return commaList(text, func(s string) (Quantity, error) {
		resource, amount, _ := strings.Cut(s, "=")
		if !qualifiedName.MatchString(resource) {
			return Quantity{}, errors.New("is no list such as cpu=100m,memory=64Mi")
		}
		return Quantity{resource, amount}, quantity(amount)
	})
}

func setAdmin(o *Options, text string) error {
	if _, err := adminPort(text); err != nil {
		return err
	}
	o.Admin = text
	return nil
}

func adminPort(addr string) (int64, error) {
	i := strings.LastIndexByte(addr, ':')
	port, err := strconv.ParseInt(addr[i+1:], 10, 32)
	if i < 0 || err != nil || port < 1 || port > 65535 {
		return 0, errors.New("is no address such as :9700; the probes need one")
	}
	return port, nil
}

var envName = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

func addEnv(o *Options, text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || !envName.MatchString(name) {
		return errors.New("is not NAME=VALUE")
	}
	o.Env = append(o.Env, EnvVar{name, value})
	return nil
}

func addEnvFrom(o *Options, text string) error {
	kind, name, _ := strings.Cut(text, "=")
	if _, err := dnsName(name); err != nil || kind != "secret" && kind != "configmap" {
		return errors.New("is not secret=NAME or configmap=NAME")
	}
	o.EnvFrom = append(o.EnvFrom, EnvFrom{kind, name})
	return nil
}

func addMount(o *Options, text string) error {
	volume, dir, _ := strings.Cut(text, "=")
	dir, readOnly := strings.CutSuffix(dir, ":ro")
	dir, err := directory(dir)
	if _, bad := dnsName(volume); bad != nil || err != nil {
		return errors.New("is not VOLUME=DIR or VOLUME=DIR:ro")
	}
	o.Mounts = append(o.Mounts, Mount{volume, dir, readOnly})
	return nil
}

// Variables are those environment variables that the sidecar gets of ours, and
// of Env, as far as their values are known here; others come from the pod.
func (o *Options) Variables() map[string]string {
	v := map[string]string{"HOME": StateDir}
	for _, h := range o.Headers {
		v[h.variable()] = h.Field
	}
	for _, e := range o.Env {
		v[e.Name] = e.Value
	}
	return v
}

// HeadersFile is the configuration that goes with flume.conf and adds the
// headers: a static interceptor for each, at the end of the chain of each
// source, with its value from the environment.
func (o *Options) HeadersFile() string {
	sources := o.agent().Sources
	if len(o.Headers) == 0 || len(sources) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# Made by millrace inject from flume.conf, which it goes with: the names of the chains below are that file's.\n")
	for _, s := range sources {
		key := o.Agent + ".sources." + s.Name + ".interceptors"
		chain := slices.Clone(s.Interceptors)
		names := make([]string, len(o.Headers))
		for i := range o.Headers {
			name := "k8s" + strconv.Itoa(i+1)
			for slices.Contains(chain, name) {
				name += "x"
			}
			names[i] = name
			chain = append(chain, name)
		}
		fmt.Fprintf(&b, "%s = %s\n", key, strings.Join(chain, " "))
		for i, h := range o.Headers {
			fmt.Fprintf(&b, "%s.%s.type = static\n%s.%s.key = %s\n%s.%s.value = ${env:%s}\n",
				key, names[i], key, names[i], h.Name, key, names[i], h.variable())
		}
	}
	return b.String()
}
