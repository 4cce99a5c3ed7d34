// Package webhook is the mutating admission webhook: what inject does to a
// manifest on somebody's disk, it does to pods while an API server admits them.
//
//	API server ── AdmissionReview ──▶ Handler ── inject.Object ──▶ JSON Patch
//	                 (TLS) │
//	                Certificate ── its own, or from files ──▶ Bundle: caBundle of the
//	                                                          MutatingWebhookConfiguration
//
// [Handler] answers reviews, counts them and logs each with its pod. [Certificate]
// is what it is reached by; where it is self-made, [Bundle] tells the API server
// to trust it, and goes on looking that it does. The few objects of Kubernetes
// that this takes are plain structs: its client library is many times larger than
// all of this.
package webhook
