package inject

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Left says why an object stays as it is.
type Left string

// Why an object stays as it is.
const (
	LeftUnasked  Left = "unasked"  // it has no annotation of ours
	LeftOff      Left = "off"      // its annotation says so
	LeftInjected Left = "injected" // it has the sidecar already
	LeftMirror   Left = "mirror"   // it only shows a static pod, which its node has from a file
	LeftOther    Left = "other"    // it is no workload
)

// mirrorKey is the annotation by which a node marks the object of a static pod.
const mirrorKey = "kubernetes.io/config.mirror"

// Object adds the sidecar to a workload as an API server has it: one JSON object.
// It returns the change as a JSON Patch (RFC 6902); with no patch and no error,
// left says why. Only objects whose pod template has an annotation millrace/...
// are changed, or with all those whose annotation does not say otherwise. The
// outcome is what [Inject] makes of the same object with a ConfigMap that is there.
// Errors are *FieldError.
func Object(text []byte, o Options, all bool) (patch []byte, left Left, err error) {
	was, err := FromJSON(text)
	if err != nil {
		return nil, "", inFile(err, "", 0, "")
	}
	if err := check(was); err != nil {
		return nil, "", err
	}
	root := place{root: was, node: was}
	w, ok := workload(root)
	if !ok {
		return nil, LeftOther, nil
	}
	if left := w.leaves(root, all); left != "" {
		return nil, left, nil
	}
	now := clone(was)
	item := place{root: now, node: now}
	pod, err := w.template(item)
	if err != nil {
		return nil, "", err
	}
	mine, off, err := forPod(pod, o)
	if err != nil {
		return nil, "", err
	}
	if off {
		return nil, LeftOff, nil
	}
	if mine.ConfigMap == "" {
		return nil, "", pod.get("metadata").get("annotations").errorf("no ConfigMap is named: add the annotation %sconfigmap with the name of one that has a key %s", prefix, configFile)
	}
	mine.Config, mine.Agents = nil, nil
	if err := w.takes(item, mine); err != nil {
		return nil, "", err
	}
	if err := w.add(item, pod, mine); err != nil {
		return nil, "", err
	}
	patch, err = difference(was, now)
	return patch, "", err
}

// leaves tells why a workload is nothing to be changed, as far as its annotations' names say.
func (w Workload) leaves(o place, all bool) Left {
	for key := range strings.SplitSeq(kinds[w.Kind].way, ".") {
		if key != "" {
			o = o.get(key)
		}
	}
	notes := o.get("metadata").get("annotations")
	switch {
	case notes.get(noteKey).node != nil:
		return LeftInjected
	case notes.get(mirrorKey).node != nil:
		return LeftMirror
	case all:
		return ""
	}
	if notes.node != nil && notes.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(notes.node.Content); i += 2 {
			if strings.HasPrefix(notes.node.Content[i].Value, prefix) {
				return ""
			}
		}
	}
	return LeftUnasked
}
