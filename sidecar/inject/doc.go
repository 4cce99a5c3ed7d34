// Package inject adds Millrace as a sidecar to the manifests of Kubernetes
// workloads, and takes it out again.
//
//	Inject ── split ─┬─ a document that is no workload: its bytes as they are
//	                 └─ a workload ── parse ── Pod (a change of the tree) ── rewrite (the change, in the text)
//
// [Pod] changes the tree of one pod template and knows nothing of texts: whoever
// has a pod as JSON, as an admission webhook has, calls [FromJSON], Pod and
// [ToJSON], and gets the same pod. All that Pod has changed is noted in an
// annotation of the pod, millrace/injected, by which [Remove] undoes it; Inject
// removes what an earlier run added before it adds anything, so that running it
// twice is running it once.
//
// The text of a manifest is the user's: only lines that change are touched.
// rewrite compares the tree with the changed one, inserts, replaces and removes
// lines by the positions of the nodes, and reads the outcome again: if that is
// not the tree that was wanted (the manifest is written in a way that lines
// cannot follow), the one document is written anew, with its comments. JSON is
// always written anew, in the indentation and order it came in.
//
// Anchors and aliases: where a change would show through an alias, the places
// that shall not change get copies first.
package inject
