package inject

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Names of what is added to a pod.
const (
	containerName = "millrace"
	volumeConfig  = "millrace-config"
	volumeState   = "millrace-state"
	volumeLogs    = "millrace-logs" // further ones are millrace-logs-2, ...
	prefix        = "millrace/"     // of annotations
	noteKey       = prefix + "injected"
	switchKey     = prefix + "inject"
	defaultUser   = 65532
)

// Times that add up to the grace period of a pod.
const (
	defaultGrace = 30               // Kubernetes', in seconds
	margin       = 5 * time.Second  // after the drain, for the end of the process
	classicWait  = 10 * time.Second // of the preStop hook, while the application ends
)

// note is what the annotation millrace/injected holds: what Remove needs.
type note struct {
	Version int      `json:"v"`
	Into    string   `json:"into"`              // the list that has the container
	Volumes []string `json:"volumes"`           // each with all of its mounts
	Grace   *string  `json:"grace,omitempty"`   // terminationGracePeriodSeconds as it was; nil: it was not there
	Group   bool     `json:"fsGroup,omitempty"` // fsGroup was added
	// Fields that were there without content, as they were written: [], {}, or a way to write null.
	Empty map[string]string `json:"empty,omitempty"`
}

const noteVersion = 1

// own is place.own, and notes what was there and empty. where is the field's name below the template.
func (n *note) own(p place, key string, kind yaml.Kind, where string) (place, error) {
	child, empty, err := p.own(key, kind)
	if empty != nil {
		if n.Empty == nil {
			n.Empty = make(map[string]string)
		}
		switch empty.Kind {
		case yaml.SequenceNode:
			n.Empty[where] = "[]"
		case yaml.MappingNode:
			n.Empty[where] = "{}"
		default:
			n.Empty[where] = empty.Value
		}
	}
	return child, err
}

// release undoes own: a collection that has nothing left goes, or becomes what it was.
func (n *note) release(p place, key, where string) {
	c := p.get(key)
	if c.node == nil || len(c.node.Content) > 0 {
		return
	}
	was, there := n.Empty[where]
	switch {
	case !there:
		p.unset(key)
	case was == "[]" || was == "{}":
		c.node.Style |= yaml.FlowStyle
	default:
		p.set(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: was})
	}
}

// Pod adds the sidecar to a pod template, or pod: a mapping with metadata and
// spec, which is changed in place and must not have a sidecar of ours (see
// [Remove]). The annotations of the pod have been taken into o by [ForPod]. A
// claim for each pod is the workload's to ask for. Errors are *FieldError.
func Pod(template *yaml.Node, o Options) error {
	return addTo(place{root: template, node: template}, o)
}

func addTo(pod place, o Options) error {
	if err := pod.is(yaml.MappingNode); err != nil {
		return err
	}
	if pod.get("spec").node == nil {
		return pod.errorf("spec: is missing")
	}
	spec, _, err := pod.own("spec", yaml.MappingNode)
	if err != nil {
		return err
	}
	a := adder{o: o, pod: pod, spec: spec, note: note{Version: noteVersion, Into: "initContainers"}}
	if a.o.LogPaths == nil {
		a.o.LogPaths = a.o.agent().LogPaths
	}
	if o.Classic {
		a.note.Into = "containers"
	}
	for _, step := range []func() error{a.check, a.logs, a.otherVolumes, a.writes, a.grace, a.container, a.annotate} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// adder is one run of Pod.
type adder struct {
	o         Options
	pod, spec place
	note      note
	apps      []place // the application's containers, to be read
	appIndex  []int
	mounts    []*yaml.Node // the sidecar's
	dirs      []string     // where they are
	writable  []string     // those that it may write to
}

// check refuses pods that the sidecar cannot be added to, before anything is changed.
func (a *adder) check() error {
	if a.o.ConfigMap == "" {
		return a.spec.errorf("there is no ConfigMap for the sidecar")
	}
	if os := a.spec.get("os").get("name"); os.text() == "windows" {
		return os.errorf("the sidecar does not run on Windows")
	}
	for _, key := range []string{"containers", "initContainers", "ephemeralContainers", "volumes"} {
		p := a.spec.get(key)
		if err := p.is(yaml.SequenceNode); err != nil {
			return err
		}
		for _, item := range p.items() {
			if item.node.Kind != yaml.MappingNode {
				return item.errorf("must be a mapping")
			}
			name := item.get("name")
			if name.text() == "" {
				return item.errorf("has no name")
			}
			if taken := name.text() == containerName && key != "volumes" || strings.HasPrefix(name.text(), "millrace-") && key == "volumes"; taken {
				return name.errorf("%q is there and was not added by millrace inject: take it out first, or leave this workload alone with the annotation %s: \"false\"", name.text(), switchKey)
			}
		}
	}
	all := a.spec.get("containers")
	if len(all.items()) == 0 {
		at := all
		if at.node == nil {
			at.node = a.spec.node
		}
		return at.errorf("has no container")
	}
	if a.o.Classic {
		if p := a.spec.get("restartPolicy"); p.node != nil && p.text() != "Always" {
			return p.errorf("%s: the pod would never end, since a classic sidecar does not; it takes native sidecars, without --classic", p.text())
		}
	}
	if err := a.choose(all); err != nil {
		return err
	}
	return a.port()
}

// choose finds the application's containers.
func (a *adder) choose(all place) error {
	names := a.o.Containers
	asked := a.pod.get("metadata").get("annotations").get("kubectl.kubernetes.io/default-container").text()
	if len(names) == 0 && asked != "" {
		names = []string{asked}
	}
	if len(names) == 0 {
		names = []string{all.items()[0].get("name").text()}
	}
	for _, name := range names {
		i := slices.IndexFunc(all.items(), func(p place) bool { return p.get("name").text() == name })
		if i < 0 {
			return all.errorf("there is no container %q", name)
		}
		a.apps = append(a.apps, all.items()[i])
		a.appIndex = append(a.appIndex, i)
	}
	return nil
}

// port settles the admin server's address: nobody else in the pod may have its port.
func (a *adder) port() error {
	if a.o.Admin == "" {
		a.o.Admin = ":9700"
		if a.onHost() {
			a.o.Admin = "127.0.0.1:9700"
		}
	}
	ours, err := adminPort(a.o.Admin)
	if err != nil {
		return a.spec.errorf("admin: %v", err)
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range a.spec.get(key).items() {
			for _, p := range c.get("ports").items() {
				if port := p.get("containerPort"); port.text() == strconv.FormatInt(ours, 10) && p.get("protocol").text() != "UDP" {
					return port.errorf("the sidecar's admin server has this port: give it another with --admin or the annotation %sadmin", prefix)
				}
			}
		}
	}
	return nil
}

func (a *adder) onHost() bool { return a.spec.get("hostNetwork").text() == "true" }

// within tells whether a directory is another, or in it.
func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, strings.TrimSuffix(parent, "/")+"/")
}

// logs gives the sidecar the volumes that the log directories are on, and shares those that are on none.
func (a *adder) logs() error {
	made := 0
	for _, l := range a.o.LogPaths {
		if within(l.Dir, ConfigDir) || within(l.Dir, StateDir) || within(ConfigDir, l.Dir) || within(StateDir, l.Dir) {
			return a.spec.errorf("log path %s: %s and %s are the sidecar's own", l.Dir, ConfigDir, StateDir)
		}
		found, err := a.mounted(l)
		if err != nil {
			return err
		}
		if found || slices.ContainsFunc(a.dirs, func(d string) bool { return within(l.Dir, d) }) {
			continue
		}
		made++
		name := volumeLogs
		if made > 1 {
			name += "-" + strconv.Itoa(made)
		}
		if err := a.share(l, name); err != nil {
			return err
		}
	}
	return nil
}

// mounted looks whether a container of the application has a volume at or above a log directory, and gives it to the sidecar.
func (a *adder) mounted(l LogPath) (bool, error) {
	var best place
	for _, app := range a.apps {
		mounts := app.get("volumeMounts")
		if err := mounts.is(yaml.SequenceNode); err != nil {
			return false, err
		}
		for _, m := range mounts.items() {
			at := m.get("mountPath")
			dir := path.Clean(at.text())
			if at.text() == "" {
				continue
			}
			if dir != l.Dir && within(dir, l.Dir) {
				return false, at.errorf("is below the log path %s: name %s as a log path as well, or instead", l.Dir, dir)
			}
			if within(l.Dir, dir) && (best.node == nil || len(dir) > len(path.Clean(best.get("mountPath").text()))) {
				best = m
			}
		}
	}
	if best.node == nil {
		return false, nil
	}
	if e := best.get("subPathExpr"); e.node != nil {
		return false, e.errorf("the sidecar cannot share a mount whose path is made of the container's environment: use subPath, or another volume for %s", l.Dir)
	}
	dir := path.Clean(best.get("mountPath").text())
	var sub *yaml.Node
	if s := best.get("subPath"); s.node != nil {
		sub = str(s.text())
	}
	if slices.Contains(a.dirs, dir) {
		return true, nil
	}
	a.mount(best.get("name").text(), dir, !a.writesIn(dir), sub)
	return true, nil
}

// writes refuses configurations that write where the sidecar has no volume: its root file system is read only.
func (a *adder) writes() error {
	for _, w := range a.o.agent().Writes {
		if !slices.ContainsFunc(a.writable, func(d string) bool { return within(path.Clean(w.Dir), d) }) {
			return a.spec.errorf("%s: %s is on no volume that the sidecar may write to: put it below %s, or share it with --log-path %s:rw or --mount", w.Where, w.Dir, StateDir, w.Dir)
		}
	}
	return nil
}

// writesIn tells whether the sidecar is to write in a log path that a mount covers.
func (a *adder) writesIn(dir string) bool {
	return slices.ContainsFunc(a.o.LogPaths, func(l LogPath) bool { return l.Write && within(l.Dir, dir) })
}

// mount adds one of the sidecar's mounts.
func (a *adder) mount(volume, dir string, readOnly bool, sub *yaml.Node) {
	m := object(field{"name", str(volume)}, field{"mountPath", str(dir)}, field{"subPath", sub})
	if readOnly {
		m.Content = append(m.Content, str("readOnly"), yes(true))
	}
	a.mounts, a.dirs = append(a.mounts, m), append(a.dirs, dir)
	if !readOnly {
		a.writable = append(a.writable, dir)
	}
}

// share makes a volume for a log directory that is on none.
func (a *adder) share(l LogPath, name string) error {
	containers, _, err := a.spec.own("containers", yaml.SequenceNode)
	if err != nil {
		return err
	}
	for _, i := range a.appIndex {
		app := containers.ownItem(i)
		mounts, err := a.note.own(app, "volumeMounts", yaml.SequenceNode, "volumeMounts of "+app.get("name").text())
		if err != nil {
			return err
		}
		mounts.node.Content = append(mounts.node.Content, object(field{"name", str(name)}, field{"mountPath", str(l.Dir)}))
	}
	a.mount(name, l.Dir, !a.writesIn(l.Dir), nil)
	return a.volume(name, field{"emptyDir", object()})
}

// volume adds a volume to the pod.
func (a *adder) volume(name string, source field) error {
	volumes, err := a.note.own(a.spec, "volumes", yaml.SequenceNode, "volumes")
	if err != nil {
		return err
	}
	if len(source.value.Content) == 0 {
		source.value.Style = yaml.FlowStyle
	}
	volumes.node.Content = append(volumes.node.Content, object(field{"name", str(name)}, source))
	a.note.Volumes = append(a.note.Volumes, name)
	return nil
}

// otherVolumes adds those of the configuration and of the state, and what the sidecar sees besides.
func (a *adder) otherVolumes() error {
	for _, m := range a.o.Mounts {
		if slices.Contains(a.dirs, m.Dir) || within(m.Dir, ConfigDir) || within(m.Dir, StateDir) {
			return a.spec.errorf("mount %s: the sidecar has a volume there already", m.Dir)
		}
		a.mount(m.Volume, m.Dir, m.ReadOnly, nil)
	}
	a.mount(volumeConfig, ConfigDir, true, nil)
	if err := a.volume(volumeConfig, field{"configMap", object(field{"name", str(a.o.ConfigMap)})}); err != nil {
		return err
	}
	a.mount(volumeState, StateDir, false, nil)
	s := a.o.State
	if s.Kind != "pvc" {
		dir := object()
		if s.Size != "" {
			dir = object(field{"sizeLimit", str(s.Size)})
		}
		return a.volume(volumeState, field{"emptyDir", dir})
	}
	// A claim's file system belongs to root: the pod's group makes it the sidecar's.
	if a.spec.get("securityContext").get("fsGroup").node == nil {
		sc, err := a.note.own(a.spec, "securityContext", yaml.MappingNode, "securityContext")
		if err != nil {
			return err
		}
		sc.set("fsGroup", num(a.user()))
		a.note.Group = true
	}
	if s.Claim == "" {
		return nil
	}
	return a.volume(volumeState, field{"persistentVolumeClaim", object(field{"claimName", str(s.Claim)})})
}

// grace lengthens the time that the pod has to end by what the sidecar needs
// after the application; a classic sidecar ends beside it.
func (a *adder) grace() error {
	const key = "terminationGracePeriodSeconds"
	was, seconds := a.spec.get(key), int64(defaultGrace)
	if err := was.is(yaml.ScalarNode); err != nil {
		return err
	}
	if was.node != nil {
		n, err := strconv.ParseInt(was.text(), 10, 64)
		if err != nil || n < 0 || n > 1<<31 {
			return was.errorf("%q is no number of seconds", was.text())
		}
		seconds = n
		text := was.text()
		a.note.Grace = &text
	}
	need := int64((a.o.Drain + margin + time.Second - 1) / time.Second)
	if a.o.Classic {
		seconds = max(seconds, need+int64(classicWait/time.Second))
	} else {
		seconds += need
	}
	v := num(seconds)
	if i := slot(a.spec.node, key); i >= 0 {
		v.LineComment = a.spec.node.Content[i].LineComment
		v.Line, v.Column = a.spec.node.Content[i].Line, a.spec.node.Content[i].Column
		a.spec.node.Content[i] = ownNode(a.spec.root, a.spec.node.Content[i])
	}
	a.spec.set(key, v)
	return nil
}

// container adds the sidecar itself, as the last of its list: it starts after
// the other init containers and ends before other sidecars, whose network it may need.
func (a *adder) container() error {
	all, err := a.note.own(a.spec, a.note.Into, yaml.SequenceNode, a.note.Into)
	if err != nil {
		return err
	}
	all.node.Content = append(all.node.Content, a.sidecar())
	return nil
}

// annotate leaves the note.
func (a *adder) annotate() error {
	meta, err := a.note.own(a.pod, "metadata", yaml.MappingNode, "metadata")
	if err != nil {
		return err
	}
	notes, err := a.note.own(meta, "annotations", yaml.MappingNode, "annotations")
	if err != nil {
		return err
	}
	text, err := json.Marshal(a.note)
	if err != nil {
		return err
	}
	v := str(string(text))
	v.Style = yaml.SingleQuotedStyle
	notes.set(noteKey, v)
	return nil
}

// Remove takes out what [Pod] has added to a pod template, and tells whether there was anything.
func Remove(template *yaml.Node) (bool, error) {
	return removeFrom(place{root: template, node: template})
}

func removeFrom(pod place) (bool, error) {
	at := pod.get("metadata").get("annotations").get(noteKey)
	if at.node == nil {
		return false, nil
	}
	var n note
	if err := json.Unmarshal([]byte(at.text()), &n); err != nil {
		return false, at.errorf("is not as millrace inject writes it: %v", err)
	}
	if n.Version > noteVersion {
		return false, at.errorf("was written by a later version of millrace inject: use that one")
	}
	if n.Version < 1 || n.Into != "initContainers" && n.Into != "containers" || !n.isOurs() {
		return false, at.errorf("is not as millrace inject writes it")
	}
	if pod.get("spec").node == nil {
		return false, pod.errorf("spec: is missing")
	}
	spec, _, err := pod.own("spec", yaml.MappingNode)
	if err != nil {
		return false, err
	}
	if err := n.removeLists(spec); err != nil {
		return false, err
	}
	if n.Group {
		sc, _, err := spec.own("securityContext", yaml.MappingNode)
		if err != nil {
			return false, err
		}
		sc.unset("fsGroup")
		n.release(spec, "securityContext", "securityContext")
	}
	if err := n.removeGrace(spec); err != nil {
		return false, err
	}
	meta, _, err := pod.own("metadata", yaml.MappingNode)
	if err != nil {
		return false, err
	}
	notes, _, err := meta.own("annotations", yaml.MappingNode)
	if err != nil {
		return false, err
	}
	notes.unset(noteKey)
	n.release(meta, "annotations", "annotations")
	n.release(pod, "metadata", "metadata")
	return true, nil
}

// isOurs guards against a note that would take out other people's volumes, or put anything in.
func (n *note) isOurs() bool {
	for _, name := range n.Volumes {
		if !strings.HasPrefix(name, "millrace-") {
			return false
		}
	}
	for _, was := range n.Empty {
		if !slices.Contains([]string{"[]", "{}", "", "~", "null", "Null", "NULL"}, was) {
			return false
		}
	}
	if n.Grace != nil {
		_, err := strconv.ParseUint(*n.Grace, 10, 32)
		return err == nil
	}
	return true
}

// removeLists takes the container, the volumes and their mounts out.
func (n *note) removeLists(spec place) error {
	ours := func(p place) bool { return slices.Contains(n.Volumes, p.get("name").text()) }
	if err := n.drop(spec, n.Into, n.Into, func(p place) bool { return p.get("name").text() == containerName }); err != nil {
		return err
	}
	if err := n.drop(spec, "volumes", "volumes", ours); err != nil {
		return err
	}
	for i, c := range spec.get("containers").items() {
		if !slices.ContainsFunc(c.get("volumeMounts").items(), ours) {
			continue
		}
		all, _, err := spec.own("containers", yaml.SequenceNode)
		if err != nil {
			return err
		}
		if err := n.drop(all.ownItem(i), "volumeMounts", "volumeMounts of "+c.get("name").text(), ours); err != nil {
			return err
		}
	}
	return nil
}

// drop takes the items out of a list that are ours, and the list if nothing is left of it.
func (n *note) drop(p place, key, where string, ours func(place) bool) error {
	if !slices.ContainsFunc(p.get(key).items(), ours) {
		return nil
	}
	all, _, err := p.own(key, yaml.SequenceNode)
	if err != nil {
		return err
	}
	var kept []*yaml.Node
	for i, item := range all.items() {
		if !ours(item) {
			kept = append(kept, all.node.Content[i])
		}
	}
	all.node.Content = kept
	n.release(p, key, where)
	return nil
}

func (n *note) removeGrace(spec place) error {
	const key = "terminationGracePeriodSeconds"
	i := slot(spec.node, key)
	switch {
	case i < 0:
	case n.Grace == nil:
		spec.unset(key)
	default:
		v := *spec.node.Content[i]
		if v.Kind != yaml.ScalarNode {
			return spec.get(key).is(yaml.ScalarNode)
		}
		v.Tag, v.Value, v.Anchor = "!!int", *n.Grace, ""
		spec.node.Content[i] = &v
	}
	return nil
}
