package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/millrace/millrace/sidecar/inject"
)

const reviewHead = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","kind":{"version":"v1","kind":"Pod"},` +
	`"resource":{"version":"v1","resource":"pods"},"namespace":"shop","operation":"CREATE","dryRun":false,"object":`

// askedPod is a pod as its ReplicaSet sends it: its name is not known yet.
const askedPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-5d9c-","creationTimestamp":null,"annotations":` +
	`{"millrace/inject":"true","millrace/log-path":"/var/log/app"}},"spec":{"containers":[{"name":"app","image":"app:1"}]}}`

func options() inject.Options {
	o := inject.Defaults("")
	o.ConfigMap = "conf"
	return o
}

// A review becomes an answer with the same uid: a patch, a refusal that says what
// is wrong, or nothing.
func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name, review, reason string
		outcome              Outcome
	}{
		{"asked", reviewHead + askedPod + "}}", "", Injected},
		{"unasked", reviewHead + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{}}}}`, "unasked", Skipped},
		{"no pod", reviewHead + `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}}}`, "other", Skipped},
		{"an update", strings.Replace(reviewHead, "CREATE", "UPDATE", 1) + askedPod + "}}", "operation", Skipped},
		{"a deletion", strings.Replace(reviewHead, "CREATE", "DELETE", 1) + "null}}", "operation", Skipped},
		{"a subresource", strings.Replace(reviewHead, `"namespace"`, `"subResource":"eviction","namespace"`, 1) + askedPod + "}}", "operation", Skipped},
		{"no object", reviewHead + `7}}`, "other", Skipped},
		{
			"a wrong annotation", reviewHead + strings.Replace(askedPod, "log-path", "logpath", 1) + "}}",
			"metadata.annotations[millrace/logpath]: there is no such annotation", Refused,
		},
		{"no containers", reviewHead + strings.Replace(askedPod, `{"name":"app","image":"app:1"}`, "", 1) + "}}", "spec.containers: has no container", Refused},
	} {
		r, err := ParseReview([]byte(c.review))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		v := Decide(r, options(), false)
		if v.Outcome != c.outcome || !strings.HasPrefix(v.Reason, c.reason) || (v.Patch != nil) != (c.outcome == Injected) {
			t.Errorf("%s: %s %q %s", c.name, v.Outcome, v.Reason, v.Patch)
		}
		text, err := v.Answer(r.UID)
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			APIVersion, Kind string
			Response         struct {
				UID       string
				Allowed   bool
				PatchType string
				Patch     []byte
				Status    *struct {
					Message string
					Code    int
				}
			}
		}
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatal(err)
		}
		got := a.Response
		if a.APIVersion != "admission.k8s.io/v1" || a.Kind != "AdmissionReview" || got.UID != "u-1" || got.Allowed == (c.outcome == Refused) ||
			(got.PatchType == "JSONPatch") != (c.outcome == Injected) || string(got.Patch) != string(v.Patch) {
			t.Errorf("%s: %s", c.name, text)
		}
		if c.outcome == Refused && (got.Status == nil || got.Status.Code != 422 || !strings.Contains(got.Status.Message, c.reason)) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
	r, err := ParseReview([]byte(reviewHead + askedPod + "}}"))
	if err != nil || r.Name != "web-5d9c-*" || r.Namespace != "shop" || r.DryRun {
		t.Errorf("%+v %v", r, err)
	}
}

// What is no review is refused with what is wrong with it.
func TestParseReview(t *testing.T) {
	for text, says := range map[string]string{
		"":   "read review",
		"{}": "no AdmissionReview",
		`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}`: "admissionReviewVersions",
		`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`:                            "uid",
		`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}`:        "read review",
		reviewHead: "unexpected end",
	} {
		if r, err := ParseReview([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v %v", text, r, err)
		}
	}
}

// FuzzReview gives it anything: there is an error, or an answer that is JSON with
// the same uid, and whose patch, where there is one, is JSON as well.
func FuzzReview(f *testing.F) {
	f.Add([]byte(reviewHead + askedPod + "}}"))
	f.Add([]byte(reviewHead + `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"d"},"spec":{"template":` + askedPod + `}}}}`))
	f.Add([]byte(reviewHead + `null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<14 {
			return
		}
		r, err := ParseReview(text)
		if err != nil {
			return
		}
		v := Decide(r, options(), true)
		if (v.Outcome == Injected) != json.Valid(v.Patch) || (v.Outcome == Injected) == (v.Reason != "") {
			t.Fatalf("%+v", v)
		}
		answer, err := v.Answer(r.UID)
		if err != nil {
			t.Fatal(err)
		}
		var a struct{ Response struct{ UID string } }
		if err := json.Unmarshal(answer, &a); err != nil || a.Response.UID != r.UID {
			t.Fatalf("%v: %s", err, answer)
		}
	})
}
