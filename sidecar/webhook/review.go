package webhook

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/sidecar/inject"
)

// MaxReview bounds a review, in bytes. An API server takes objects of at most
// 3 MiB, and a review holds two at the most.
const MaxReview = inject.MaxInput

// reviewVersion is the only one that API servers still send.
const reviewVersion = "admission.k8s.io/v1"

// Review is what an API server asks (AdmissionReview, admission.k8s.io/v1), as far as it matters here.
type Review struct {
	UID       string
	Operation string // CREATE, UPDATE, DELETE, CONNECT
	Sub       string // subresource; empty: the object itself
	Kind      string
	Namespace string
	Name      string // of the object; where the server will choose it, its beginning and an asterisk
	DryRun    bool
	Object    []byte // JSON
}

// ParseReview reads a review.
func ParseReview(text []byte) (Review, error) {
	var in struct {
		APIVersion string
		Kind       string
		Request    *struct {
			UID       string
			Kind      struct{ Kind string }
			Resource  struct{ Resource string }
			Sub       string `json:"subResource"`
			Namespace string
			Name      string
			Operation string
			DryRun    bool
			Object    json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Review{}, fmt.Errorf("read review: %w", err)
	}
	r := in.Request
	switch {
	case in.Kind != "AdmissionReview" || in.APIVersion != reviewVersion:
		return Review{}, fmt.Errorf("read review: %s %q is no AdmissionReview of %s: put v1 into admissionReviewVersions", in.APIVersion, in.Kind, reviewVersion)
	case r == nil || r.UID == "":
		return Review{}, errors.New("read review: it has no request with a uid")
	}
	var meta struct {
		Metadata struct{ Name, GenerateName string }
	}
	// An object that is none is the injector's to complain of.
	_ = json.Unmarshal(r.Object, &meta)
	name := r.Name
	if name == "" {
		name = meta.Metadata.Name
	}
	if name == "" {
		name = meta.Metadata.GenerateName + "*"
	}
	return Review{
		UID: r.UID, Operation: r.Operation, Sub: r.Sub, Kind: r.Kind.Kind, Namespace: r.Namespace, Name: name,
		DryRun: r.DryRun, Object: r.Object,
	}, nil
}

// Outcome is what became of a review.
type Outcome string

// Outcomes; skips have an [inject.Left] besides.
const (
	Injected Outcome = "injected"
	Skipped  Outcome = "skipped"
	Refused  Outcome = "refused"
	Bad      Outcome = "bad" // it was no review
)

// Verdict is the answer to a review.
type Verdict struct {
	Outcome Outcome
	Reason  string // of a skip a word, of a refusal a sentence
	Patch   []byte // JSON Patch
}

// leftOperation is why nothing is done when an object that is there already is changed: a pod's containers stay as they are.
const leftOperation = inject.Left("operation")

// Decide says what becomes of the object of a review.
func Decide(r Review, o inject.Options, all bool) Verdict {
	if r.Sub != "" || r.Operation != "CREATE" && (r.Operation != "UPDATE" || r.Kind == "Pod") {
		return Verdict{Outcome: Skipped, Reason: string(leftOperation)}
	}
	patch, left, err := inject.Object(r.Object, o, all)
	switch {
	case err != nil:
		return Verdict{Outcome: Refused, Reason: reason(err)}
	case left != "":
		return Verdict{Outcome: Skipped, Reason: string(left)}
	}
	return Verdict{Outcome: Injected, Patch: patch}
}

// reason is an error without the file and line that an object in flight has not.
func reason(err error) string {
	var f *inject.FieldError
	if !errors.As(err, &f) {
		return err.Error()
	}
	if f.Field == "" {
		return f.Text
	}
	return f.Field + ": " + f.Text
}

// Answer writes the AdmissionReview that answers.
func (v Verdict) Answer(uid string) ([]byte, error) {
	type status struct {
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Code    int    `json:"code"`
	}
	type response struct {
		UID       string  `json:"uid"`
		Allowed   bool    `json:"allowed"`
		PatchType string  `json:"patchType,omitempty"`
		Patch     []byte  `json:"patch,omitempty"` // in base64, as the API has it
		Status    *status `json:"status,omitempty"`
	}
	out := struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Response   response `json:"response"`
	}{reviewVersion, "AdmissionReview", response{UID: uid, Allowed: v.Outcome != Refused}}
	switch v.Outcome {
	case Refused:
		out.Response.Status = &status{"millrace: " + v.Reason, "Invalid", 422}
	case Injected:
		out.Response.PatchType, out.Response.Patch = "JSONPatch", v.Patch
	}
	return json.Marshal(out)
}
