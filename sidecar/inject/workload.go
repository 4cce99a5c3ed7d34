package inject

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Workload is what a pod template belongs to.
type Workload struct {
	Kind, Name, Namespace string
}

// kinds are the workloads, each with the fields that lead to its pod template.
var kinds = map[string]struct {
	groups string // of its apiVersion, separated by blanks; - is the core group
	way    string
}{
	"Pod":                   {"-", ""},
	"PodTemplate":           {"-", "template"},
	"ReplicationController": {"-", "spec.template"},
	"Deployment":            {"apps extensions", "spec.template"},
	"ReplicaSet":            {"apps extensions", "spec.template"},
	"DaemonSet":             {"apps extensions", "spec.template"},
	"StatefulSet":           {"apps", "spec.template"},
	"Job":                   {"batch", "spec.template"},
	"CronJob":               {"batch", "spec.jobTemplate.spec.template"},
}

// workload tells what an object is; not ok for what has no pods, or is of somebody else's group.
func workload(o place) (w Workload, ok bool) {
	kind := o.get("kind").text()
	group, _, versioned := strings.Cut(o.get("apiVersion").text(), "/")
	if !versioned {
		group = "-"
	}
	k, known := kinds[kind]
	if !known || !strings.Contains(" "+k.groups+" ", " "+group+" ") {
		return w, false
	}
	meta := o.get("metadata")
	w = Workload{Kind: kind, Name: meta.get("name").text(), Namespace: meta.get("namespace").text()}
	if w.Name == "" {
		w.Name = strings.TrimRight(meta.get("generateName").text(), "-.")
	}
	return w, true
}

// template owns the way to the pod template.
func (w Workload) template(o place) (place, error) {
	for key := range strings.SplitSeq(kinds[w.Kind].way, ".") {
		if key == "" {
			continue
		}
		if o.get(key).node == nil {
			return o, place{path: o.below(key), node: &yaml.Node{Line: o.node.Line}}.errorf("is missing")
		}
		var err error
		if o, _, err = o.own(key, yaml.MappingNode); err != nil {
			return o, err
		}
	}
	return o, nil
}

// several tells whether there may be several pods of the workload at a time.
func (w Workload) several(o place) (place, bool) {
	switch w.Kind {
	case "DaemonSet":
		return o.get("kind"), true
	case "Job":
		p := o.get("spec").get("parallelism")
		return p, p.node != nil && p.text() != "1" && p.text() != "0"
	case "CronJob":
		p := o.get("spec").get("jobTemplate").get("spec").get("parallelism")
		return p, p.node != nil && p.text() != "1" && p.text() != "0"
	}
	p := o.get("spec").get("replicas")
	return p, p.node != nil && p.text() != "1" && p.text() != "0"
}

// takes refuses what cannot be done for a workload of this kind.
func (w Workload) takes(item place, o Options) error {
	if o.Classic && (w.Kind == "Job" || w.Kind == "CronJob") {
		return item.get("kind").errorf("a %s never ends while a classic sidecar runs: it takes native sidecars, without --classic", w.Kind)
	}
	if o.State.Kind == "pvc" && o.State.Claim != "" {
		if why, many := w.several(item); many {
			return why.errorf("%s: several pods cannot share the claim %s: each needs its own, as a StatefulSet's with --state pvc,size=SIZE", why.text(), o.State.Claim)
		}
	}
	if o.State.Kind == "pvc" && o.State.Claim == "" && w.Kind != "StatefulSet" {
		return item.get("kind").errorf("only a StatefulSet has claims for each pod: name a claim with --state pvc=NAME")
	}
	return nil
}

// add adds the sidecar to the pod template of a workload, and what the workload itself needs for it.
func (w Workload) add(item, pod place, o Options) error {
	if err := addTo(pod, o); err != nil {
		return err
	}
	if o.State.Kind == "pvc" && o.State.Claim == "" {
		return addClaim(item, o.State)
	}
	return nil
}

// each calls f with each object of a document: those of a list, or itself. own
// gives the object for changing it.
func each(o place, f func(item place, own func() (place, error)) error) error {
	if o.node == nil || o.node.Kind != yaml.MappingNode {
		return nil
	}
	items := o.get("items")
	if items.node == nil || !strings.HasSuffix(o.get("kind").text(), "List") {
		return f(o, func() (place, error) { return o, nil })
	}
	if err := items.is(yaml.SequenceNode); err != nil {
		return err
	}
	for i, item := range items.items() {
		if item.node.Kind != yaml.MappingNode {
			return item.errorf("must be a mapping")
		}
		err := f(item, func() (place, error) {
			all, _, err := o.own("items", yaml.SequenceNode)
			if err != nil {
				return all, err
			}
			return all.ownItem(i), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// managedBy marks objects that are ours, by the label of that name.
const (
	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "millrace-inject"
)

func isOurs(o place) bool {
	return o.get("kind").text() == "ConfigMap" && o.get("metadata").get("labels").get(managedLabel).text() == managedBy
}

// documentName names the i-th document in messages.
func documentName(i int, root *yaml.Node) string {
	name := fmt.Sprintf("document %d", i+1)
	o := place{node: deref(root)}
	if kind := o.get("kind").text(); kind != "" {
		label := strings.TrimSpace(kind + " " + o.get("metadata").get("name").text())
		name += " (" + label + ")"
	}
	return name
}

// inFile puts what is missing into an error of a field: its file, document and line there.
func inFile(err error, file string, before int, document string) error {
	var f *FieldError
	if !errors.As(err, &f) {
		return &FieldError{File: file, Line: before + 1, Document: document, Text: err.Error()}
	}
	g := *f
	if g.File == "" {
		g.File = file
	}
	if g.Line > 0 {
		g.Line += before
	} else if g.File == file {
		g.Line = before + 1
	}
	if g.Document == "" {
		g.Document = document
	}
	return &g
}
