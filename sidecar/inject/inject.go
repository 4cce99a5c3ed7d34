package inject

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxConfigMap is Kubernetes' limit.
const maxConfigMap = 1 << 20

// Inject adds the sidecar to every workload of a manifest, one that was added
// before replaced, and returns the manifest. name is the file's, for messages. A
// workload with the annotation millrace/inject: "false" stays without. The
// errors, all that were found, are *FieldError, joined.
func Inject(name string, text []byte, o Options) ([]byte, error) {
	text, mark := cutMark(text)
	docs, err := split(name, text)
	if err != nil {
		return nil, err
	}
	var errs []error
	found, others := false, []string{}
	made := make(map[string]string) // the text of each ConfigMap, by namespace and name
	for i, d := range docs {
		if d.root == nil {
			continue
		}
		err := d.uninject()
		if err == nil && !d.gone {
			var here bool
			var other []string
			here, other, err = d.inject(o, made)
			found, others = found || here, append(others, other...)
		}
		if err != nil {
			errs = append(errs, inFile(err, name, d.line-1, documentName(i, d.root)))
		}
	}
	if !found && len(errs) == 0 {
		has := "nothing"
		if len(others) > 0 {
			slices.Sort(others)
			has = strings.Join(slices.Compact(others), ", ")
		}
		errs = append(errs, &FieldError{File: name, Text: "there is no workload to inject into: it has " + has})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return append(mark, join(docs)...), nil
}

// Uninject takes out what Inject has added to a manifest, and its ConfigMaps.
func Uninject(name string, text []byte) ([]byte, error) {
	text, mark := cutMark(text)
	docs, err := split(name, text)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, d := range docs {
		if d.root == nil {
			continue
		}
		if err := d.uninject(); err != nil {
			errs = append(errs, inFile(err, name, d.line-1, documentName(i, d.root)))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return append(mark, join(docs)...), nil
}

// cutMark takes the byte order mark off, for it to be put back.
func cutMark(text []byte) (rest, mark []byte) {
	if s := string(text); strings.HasPrefix(s, "\ufeff") {
		return text[3:], []byte("\ufeff")
	}
	return text, nil
}

func (d *document) inject(o Options, made map[string]string) (found bool, others []string, err error) {
	now, root := d.tree()
	changed := false
	err = each(place{root: now, node: root}, func(item place, own func() (place, error)) error {
		w, ok := workload(item)
		if !ok {
			if kind := item.get("kind").text(); kind != "" {
				others = append(others, kind)
			}
			return nil
		}
		found = true
		if err := item.get("metadata").is(yaml.MappingNode); err != nil {
			return err
		}
		item, err := own()
		if err != nil {
			return err
		}
		pod, err := w.template(item)
		if err != nil {
			return err
		}
		mine, skip, err := forPod(pod, o)
		if err != nil || skip {
			return err
		}
		changed = true
		return d.add(w, item, pod, mine, made)
	})
	if err != nil || !changed {
		return found, others, err
	}
	return found, others, d.replace(now)
}

// add adds the sidecar to one workload, and the ConfigMap before its document.
func (d *document) add(w Workload, item, pod place, o Options, made map[string]string) error {
	if err := w.takes(item, o); err != nil {
		return err
	}
	if o.ConfigMap != "" {
		o.Config, o.Agents = nil, nil
	} else {
		if err := d.configMap(w, item, &o, made); err != nil {
			return err
		}
	}
	return w.add(item, pod, o)
}

// configMap puts the ConfigMap of a workload before the document, and its name into o.
func (d *document) configMap(w Workload, item place, o *Options, made map[string]string) error {
	if o.Config == nil {
		return item.errorf("there is no configuration: give one with --config FILE, or a ConfigMap with --configmap NAME or the annotation %sconfigmap", prefix)
	}
	if w.Name == "" {
		return item.errorf("metadata.name: is missing, and the ConfigMap is named after it")
	}
	o.ConfigMap = w.Name + "-millrace"
	if err := o.chooseAgent(item); err != nil {
		return err
	}
	headers := o.HeadersFile()
	if len(o.Config)+len(headers) > maxConfigMap {
		return item.errorf("a configuration of more than 1 MiB does not go into a ConfigMap")
	}
	if !utf8.Valid(o.Config) {
		return item.errorf("the configuration is not UTF-8, which a ConfigMap must be")
	}
	var namespace *yaml.Node
	if w.Namespace != "" {
		namespace = str(w.Namespace)
	}
	data := object(field{configFile, literal(string(o.Config))})
	if headers != "" {
		data.Content = append(data.Content, str(headersFile), literal(headers))
	}
	m := object(
		field{"apiVersion", str("v1")},
		field{"kind", str("ConfigMap")},
		field{"metadata", object(
			field{"name", str(o.ConfigMap)},
			field{"namespace", namespace},
			field{"labels", object(field{managedLabel, str(managedBy)})},
		)},
		field{"data", data},
	)
	text, err := d.asText(m)
	if err != nil {
		return err
	}
	key := w.Namespace + "/" + o.ConfigMap
	if before, ok := made[key]; ok {
		if before != string(text) {
			return item.errorf("needs the ConfigMap %s, which another workload of the same name has with other content", o.ConfigMap)
		}
		return nil
	}
	made[key] = string(text)
	if len(d.ahead) > 0 {
		d.ahead = append(d.ahead, lineBreak(d.text)...)
		if !d.json {
			d.ahead = append(d.ahead[:len(d.ahead)-len(lineBreak(d.text))], "---"+lineBreak(d.text)...)
		}
	}
	d.ahead = append(d.ahead, text...)
	return nil
}

// chooseAgent settles which agent of the configuration a workload gets.
func (o *Options) chooseAgent(item place) error {
	var names []string
	for _, a := range o.Agents {
		names = append(names, a.Name)
	}
	if o.Agent == "" && len(names) == 1 {
		o.Agent = names[0]
	}
	if len(names) > 0 && !slices.Contains(names, o.Agent) {
		if o.Agent == "" {
			return item.errorf("the configuration has the agents %s: choose one with --name or the annotation %sname", strings.Join(names, ", "), prefix)
		}
		return item.errorf("the configuration has no agent %q, but %s", o.Agent, strings.Join(names, ", "))
	}
	return nil
}

// agent is what is known of the agent that runs, if anything.
func (o *Options) agent() Agent {
	for _, a := range o.Agents {
		if a.Name == o.Agent {
			return a
		}
	}
	return Agent{}
}

// asText writes a new document in the form of d.
func (d *document) asText(m *yaml.Node) ([]byte, error) {
	if d.json {
		return likeJSON(m, []byte(strings.TrimSpace(string(d.text))))
	}
	text, err := render(m)
	if err != nil {
		return nil, err
	}
	// What the encoder makes of an odd text in a block is not always read as it was: quotes always are.
	if again, err := parse([]byte(text)); err != nil || !same(again.Content[0], m) {
		for _, n := range lookup(m, "data").Content {
			n.Style = yaml.DoubleQuotedStyle
		}
		if text, err = render(m); err != nil {
			return nil, err
		}
	}
	if lineBreak(d.text) == "\r\n" {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return []byte(text), nil
}

func literal(text string) *yaml.Node {
	n := str(text)
	n.Style = yaml.LiteralStyle
	return n
}

// addClaim asks for a claim for each pod of a StatefulSet.
func addClaim(set place, s State) error {
	spec, _, err := set.own("spec", yaml.MappingNode)
	if err != nil {
		return err
	}
	claims, _, err := spec.own("volumeClaimTemplates", yaml.SequenceNode)
	if err != nil {
		return err
	}
	for _, c := range claims.items() {
		if c.get("metadata").get("name").text() == volumeState {
			return c.errorf("%s is there and was not added by millrace inject", volumeState)
		}
	}
	var class *yaml.Node
	if s.StorageClass != "" {
		class = str(s.StorageClass)
	}
	claims.node.Content = append(claims.node.Content, object(
		field{"metadata", object(
			field{"name", str(volumeState)},
			field{"labels", object(field{managedLabel, str(managedBy)})},
		)},
		field{"spec", object(
			field{"accessModes", words("ReadWriteOnce")},
			field{"storageClassName", class},
			field{"resources", object(field{"requests", object(field{"storage", str(s.Size)})})},
		)},
	))
	return nil
}

func (d *document) uninject() error {
	now, root := d.tree()
	if isOurs(place{root: now, node: root}) {
		d.gone = true
		return nil
	}
	changed := false
	err := each(place{root: now, node: root}, func(item place, own func() (place, error)) error {
		w, ok := workload(item)
		if !ok {
			return nil
		}
		read := item
		for key := range strings.SplitSeq(kinds[w.Kind].way, ".") {
			if key != "" {
				read = read.get(key)
			}
		}
		if read.get("metadata").get("annotations").get(noteKey).node == nil {
			return nil
		}
		item, err := own()
		if err != nil {
			return err
		}
		pod, err := w.template(item)
		if err != nil {
			return err
		}
		did, err := removeFrom(pod)
		changed = changed || did
		if err != nil || w.Kind != "StatefulSet" {
			return err
		}
		return removeClaim(item)
	})
	if err != nil || !changed {
		return err
	}
	return d.replace(now)
}

func removeClaim(set place) error {
	spec := set.get("spec")
	var n note
	return n.drop(spec, "volumeClaimTemplates", "", func(c place) bool {
		meta := c.get("metadata")
		return meta.get("name").text() == volumeState && meta.get("labels").get(managedLabel).text() == managedBy
	})
}

// ForPod is o with what the annotations of a pod template say; skip tells that the pod shall have no sidecar.
func ForPod(template *yaml.Node, o Options) (mine Options, skip bool, err error) {
	return forPod(place{root: template, node: template}, o)
}

func forPod(pod place, o Options) (Options, bool, error) {
	meta := pod.get("metadata")
	if err := meta.is(yaml.MappingNode); err != nil {
		return o, false, err
	}
	notes := meta.get("annotations")
	if err := notes.is(yaml.MappingNode); err != nil {
		return o, false, err
	}
	if notes.node == nil {
		return o, false, headersThere(pod, o)
	}
	settings := Settings()
	for i := 0; i+1 < len(notes.node.Content); i += 2 {
		key, value := notes.node.Content[i].Value, deref(notes.node.Content[i+1])
		name, ours := strings.CutPrefix(key, prefix)
		if !ours || key == noteKey {
			continue
		}
		at := place{node: value, path: notes.path + "[" + key + "]"}
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" {
			return o, false, at.errorf("must be a string: put it in quotes")
		}
		if key == switchKey {
			switch value.Value {
			case "true", "enabled":
				continue
			case "false", "disabled":
				return o, true, nil
			}
			return o, false, at.errorf("%q is not true or false", value.Value)
		}
		j := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name && s.Annotation })
		if j < 0 {
			return o, false, at.errorf("there is no such annotation; there are %s", annotationNames(settings))
		}
		if err := settings[j].Set(&o, value.Value); err != nil {
			return o, false, at.errorf("%q %v", value.Value, err)
		}
	}
	return o, false, headersThere(pod, o)
}

func annotationNames(settings []Setting) string {
	names := []string{switchKey}
	for _, s := range settings {
		if s.Annotation {
			names = append(names, prefix+s.Name)
		}
	}
	return strings.Join(names, ", ")
}

// headersThere refuses headers of labels and annotations that the pod will not have: they would have no value.
func headersThere(pod place, o Options) error {
	for _, h := range o.Headers {
		kind, key, ok := strings.Cut(h.Field, ":")
		if !ok || slices.Contains(givenLater, key) {
			continue
		}
		all := pod.get("metadata").get(kind + "s")
		if all.get(key).node == nil {
			if all.node == nil {
				all.node = pod.node
			}
			return all.errorf("has no %q, which the header %s is to have the value of", key, h.Name)
		}
	}
	return nil
}

// givenLater are the labels that controllers give to their pods.
var givenLater = []string{
	"pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "job-name",
	"batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index", "controller-uid",
}

// ConfigFiles are the names and texts of the files of the ConfigMap that o makes.
func (o *Options) ConfigFiles() map[string][]byte {
	files := map[string][]byte{configFile: o.Config}
	if h := o.HeadersFile(); h != "" {
		files[headersFile] = []byte(h)
	}
	return files
}
