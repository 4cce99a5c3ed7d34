package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

const jsonPod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","annotations":{"millrace/drain-timeout":"5s"}},` +
	`"spec":{"containers":[{"name":"app","image":"app:1","env":[{"name":"A","value":"<&>"}]}]}}`

// What a webhook makes of a pod as JSON is what Inject makes of it, byte for byte.
func TestPodIsAsInject(t *testing.T) {
	o := Defaults("1.2.3")
	o.ConfigMap, o.LogPaths = "conf", []LogPath{{Dir: "/var/log/app"}}
	want, err := Inject("pod.json", []byte(jsonPod), o)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := FromJSON([]byte(jsonPod))
	if err != nil {
		t.Fatal(err)
	}
	mine, skip, err := ForPod(tree, o)
	if err != nil || skip || mine.Drain.Seconds() != 5 {
		t.Fatal(mine.Drain, skip, err)
	}
	if err := Pod(tree, mine); err != nil {
		t.Fatal(err)
	}
	got, err := ToJSON(tree)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
	if did, err := Remove(tree); !did || err != nil {
		t.Fatal(did, err)
	}
	if back, err := ToJSON(tree); err != nil || string(back) != jsonPod {
		t.Errorf("%v\n%s", err, back)
	}
	if did, err := Remove(tree); did || err != nil {
		t.Error("removed twice:", did, err)
	}
}

// The sidecar is what the pod security level "restricted" asks of a container.
func TestRestricted(t *testing.T) {
	o := Defaults("")
	o.ConfigMap = "conf"
	tree, err := FromJSON([]byte(jsonPod))
	if err != nil {
		t.Fatal(err)
	}
	if err := Pod(tree, o); err != nil {
		t.Fatal(err)
	}
	text, err := ToJSON(tree)
	if err != nil {
		t.Fatal(err)
	}
	var pod struct {
		Spec struct {
			InitContainers []struct {
				RestartPolicy   string
				SecurityContext struct {
					AllowPrivilegeEscalation             *bool
					ReadOnlyRootFilesystem, RunAsNonRoot bool
					RunAsUser                            int
					Capabilities                         struct{ Drop, Add []string }
					SeccompProfile                       struct{ Type string }
				}
			}
			TerminationGracePeriodSeconds int
		}
	}
	if err := json.Unmarshal(text, &pod); err != nil || len(pod.Spec.InitContainers) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	c := pod.Spec.InitContainers[0]
	s := c.SecurityContext
	if c.RestartPolicy != "Always" || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
		!s.RunAsNonRoot || s.RunAsUser == 0 || strings.Join(s.Capabilities.Drop, " ") != "ALL" || s.Capabilities.Add != nil ||
		s.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("%s", text)
	}
	if got := pod.Spec.TerminationGracePeriodSeconds; got < defaultGrace+int(o.Drain.Seconds()) {
		t.Errorf("the pod is killed after %d seconds", got)
	}
}

// What is too large, too deep or in no readable form is refused.
func TestRefused(t *testing.T) {
	o := Defaults("")
	o.ConfigMap = "conf"
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: app}]}\n"
	with := func(config string) Options {
		o := Defaults("")
		o.Config = []byte(config)
		return o
	}
	for _, c := range []struct {
		name, in string
		o        Options
		says     string
	}{
		{"size", strings.Repeat("#", MaxInput+1), o, "8 MiB"},
		{"UTF-16", "\xff\xfea\x00", o, "UTF-16"},
		{"depth", pod + "x: " + strings.Repeat("[", 300) + strings.Repeat("]", 300), o, "deep"},
		{"depth of JSON", `{"x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "}", o, "deep"},
		{"a large configuration", pod, with(strings.Repeat("#", 1<<20+1)), "1 MiB"},
		{"a configuration in Latin-1", pod, with("# caf\xe9"), "UTF-8"},
	} {
		out, err := Inject("m", []byte(c.in), c.o)
		var f *FieldError
		if out != nil || !errors.As(err, &f) || f.File != "m" || !strings.Contains(f.Text, c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Every option is read from a text, and refuses one that is none of its.
func TestSettings(t *testing.T) {
	bad := map[string]string{
		"image": "a b", "image-pull-policy": "always", "configmap": "A", "name": "", "container": "a,B", "log-path": "/", "state": "emptyDir=big",
		"headers": "pod,pod", "drain-timeout": "-1s", "run-as-user": "root", "requests": "cpu", "limits": "cpu=fast", "admin": ":0",
		"env": "=x", "env-from": "file=x", "mount": "data",
	}
	for _, s := range append(Settings(), Lists()...) {
		o := Defaults("")
		if text, ok := bad[s.Name]; !ok || s.Set(&o, text) == nil {
			t.Errorf("--%s takes %q", s.Name, text)
		}
	}
	if image := Defaults("v1.2.3").Image; image != "millrace:1.2.3" {
		t.Error(image)
	}
	if image := Defaults("v1.2.4-0.20261127-abc").Image; image != "millrace" {
		t.Error(image)
	}
}

// The page for users names every option, and every annotation.
func TestPageNamesEveryOption(t *testing.T) {
	page, err := os.ReadFile("../../docs/sidecar.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(Settings(), Lists()...) {
		if !bytes.Contains(page, []byte("`--"+s.Name+" ")) {
			t.Errorf("docs/sidecar.md does not tell of --%s", s.Name)
		}
		if s.Annotation && !bytes.Contains(page, []byte("`"+prefix+s.Name+"`")) {
			t.Errorf("docs/sidecar.md does not tell of the annotation %s%s", prefix, s.Name)
		}
	}
}
