package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/sidecar/inject"
	"github.com/millrace/millrace/sidecar/webhook"
)

// webhookOptions are the command line of webhook.
type webhookOptions struct {
	inject.Options
	all               bool
	listen, status    string
	certFile, keyFile string
	service           string
	hosts             []string
	configuration     string
	account           string
	look              time.Duration
	grace             time.Duration
	logForm           string
}

func (p *Program) parseWebhook(args []string) (o *webhookOptions, code int, ok bool) {
	o = &webhookOptions{
		Options: inject.Defaults(versionOf().Version), listen: ":9443", status: ":9701", service: "millrace-webhook",
		configuration: "millrace-webhook", account: webhook.AccountDir, look: time.Minute, grace: 10 * time.Second, logForm: "text",
	}
	f := newFlags(p, "webhook")
	f.service = true
	f.String(&o.listen, "listen", "", "ADDR", "where reviews are taken, by HTTPS at /mutate (default :9443)")
	f.String(&o.status, "status", "", "ADDR", "where /healthz, /readyz and /metrics are, by HTTP (default :9701)")
	f.String(&o.certFile, "tls-cert", "", "FILE", "the certificate, PEM; read again when it changes (default: self-made)")
	f.String(&o.keyFile, "tls-key", "", "FILE", "its key, PEM")
	f.String(&o.service, "service", "", "NAME", "the Service that a self-made certificate is for (default millrace-webhook)")
	f.List(&o.hosts, "host", "", "NAME", "further names or addresses that a self-made certificate is for")
	f.String(&o.configuration, "configuration", "", "NAME", "the MutatingWebhookConfiguration that is told to trust a self-made certificate; off for none (default millrace-webhook)")
	f.String(&o.account, "service-account", "", "DIR", "token, CA and namespace of the service account (default "+webhook.AccountDir+")")
	f.Duration(&o.look, "look-interval", "", "how often to look for a new certificate, and that it is trusted (default 1m)")
	f.Duration(&o.grace, "grace", "", "how long to answer on after SIGTERM, while API servers learn of it (default 10s)")
	f.Bool(&o.all, "all", "", "pods need no annotation millrace/... to get the sidecar")
	f.OneOf(&o.logForm, "log", "form of the log on standard error (default text)", "text", "json")
	f.Bool(&o.Classic, "classic", "", "an ordinary container, for clusters without native sidecars (before 1.29)")
	for _, s := range append(inject.Settings(), inject.Lists()...) {
		f.add(valueFunc(func(text string) error { return s.Set(&o.Options, text) }), s.Name, "", s.Arg, s.Doc)
	}
	if code, ok := f.parse(args); !ok {
		return nil, code, false
	}
	if code, ok := f.rest(); !ok {
		return nil, code, false
	}
	switch {
	case (o.certFile == "") != (o.keyFile == ""):
		return nil, f.wrong("--tls-cert and --tls-key go together"), false
	case o.look == 0:
		return nil, f.wrong("--look-interval: must be more than 0"), false
	}
	return o, exitOK, true
}

// webhook adds the sidecar to pods while an API server admits them.
func (p *Program) webhook(args []string) int {
	o, code, ok := p.parseWebhook(args)
	if !ok {
		return code
	}
	log := newLog(p.Stderr, o.logForm, slog.LevelInfo)
	ctx, cut, _, stop := p.signals(newDrainState(""), log)
	defer stop()
	w, err := p.newWebhook(o, log)
	if err == nil {
		err = w.run(ctx, cut)
	}
	if err != nil {
		log.Error("webhook failed", "error", err)
		return exitFailed
	}
	return exitOK
}

// admissions is a running webhook.
type admissions struct {
	o       *webhookOptions
	log     *slog.Logger
	handler *webhook.Handler
	cert    *webhook.Certificate
	bundle  *webhook.Bundle // nil: the certificate is not ours
	ready   atomic.Bool
	failed  atomic.Int64 // looks at certificate and bundle
	renewed atomic.Int64
}

func (p *Program) newWebhook(o *webhookOptions, log *slog.Logger) (*admissions, error) {
	w := &admissions{o: o, log: log, handler: webhook.NewHandler(o.Options, o.all, log)}
	var err error
	if o.certFile != "" {
		w.cert, err = webhook.FromFiles(o.certFile, o.keyFile)
		return w, err
	}
	hosts := o.hosts
	if namespace := webhook.Namespace(o.account); namespace != "" {
		name := o.service + "." + namespace + ".svc"
		hosts = append(hosts, name, name+".cluster.local")
	}
	if len(hosts) == 0 {
		return nil, errors.New("a self-made certificate is for nobody: this is no pod, give --host")
	}
	if w.cert, err = webhook.SelfMade(hosts, time.Now); err != nil || o.configuration == "off" {
		return w, err
	}
	cluster, err := webhook.InCluster(p.Env, o.account)
	if err != nil {
		return nil, fmt.Errorf("%w; --configuration off does without", err)
	}
	w.bundle = &webhook.Bundle{Cluster: cluster, Name: o.configuration, Now: time.Now}
	return w, nil
}

// run serves until ctx ends, and for the grace after it, unless that is cut short.
func (w *admissions) run(ctx, cut context.Context) error {
	reviews, err := net.Listen("tcp", w.o.listen)
	if err != nil {
		return fmt.Errorf("listen for reviews: %w", err)
	}
	status, err := net.Listen("tcp", w.o.status)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for status: %w", err), reviews.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("/mutate", w.handler)
	secure := tls.NewListener(reviews, &tls.Config{GetCertificate: w.cert.Get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	server, plain := serve(secure, mux, w.log), serve(status, http.HandlerFunc(w.status), w.log)
	w.log.Info("webhook", "version", versionOf().short(), "listen", reviews.Addr().String(), "status", status.Addr().String(),
		"certificate_until", w.cert.Expires().UTC().Format(time.RFC3339))
	w.look(ctx)
	if ctx.Err() == nil {
		w.ready.Store(w.failed.Load() == 0)
	}
	every := time.NewTicker(w.o.look)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-every.C:
			w.ready.Store(w.look(ctx) || w.ready.Load())
		}
	}
	every.Stop()
	// Endpoints are taken out while we still answer: a review that fails may keep a pod from starting.
	w.ready.Store(false)
	select {
	case <-cut.Done():
	case <-time.After(w.o.grace):
	}
	server.stop()
	plain.stop()
	return nil
}

// look renews the certificate if it is time, and sees that the API server trusts it.
func (w *admissions) look(ctx context.Context) bool {
	var trust func([]byte) error
	if w.bundle != nil {
		trust = func(cert []byte) error {
			added, err := w.bundle.Trust(ctx, cert)
			if added {
				w.log.Info("the webhook configuration trusts this certificate", "configuration", w.bundle.Name)
			}
			return err
		}
	}
	renewed, err := w.cert.Renew(trust)
	if err == nil && trust != nil {
		err = trust(w.cert.PEM())
	}
	if err != nil {
		w.failed.Add(1)
		w.log.Error("certificate", "error", err)
		return false
	}
	if renewed {
		w.renewed.Add(1)
		w.log.Info("a new certificate", "until", w.cert.Expires().UTC().Format(time.RFC3339))
	}
	return true
}

func (w *admissions) status(out http.ResponseWriter, r *http.Request) {
	out.Header().Set("Cache-Control", "no-store")
	switch r.URL.Path {
	case "/healthz":
		fmt.Fprintln(out, "ok")
	case "/readyz":
		if !w.ready.Load() {
			http.Error(out, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(out, "ready")
	case "/metrics":
		out.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(out, exposition(processSamples(), false)+exposition(w.samples(), false)) // the client is gone
	default:
		http.NotFound(out, r)
	}
}

func (w *admissions) samples() []sample {
	const name, help = "millrace_webhook_reviews_total", "Reviews answered, by what became of the object and why."
	labels := func(result, reason string) []string { return []string{"reason", "result", reason, result} }
	list := []sample{
		{
			name: "millrace_webhook_certificate_expiry_timestamp_seconds", help: "When the certificate ends to be valid, in seconds since 1970.", gauge: true,
			value: float64(w.cert.Expires().Unix()),
		},
		{name: "millrace_webhook_certificate_failures_total", help: "Failed attempts to renew the certificate or to have it trusted.", value: float64(w.failed.Load())},
		{name: "millrace_webhook_certificate_renewals_total", help: "Certificates after the first.", value: float64(w.renewed.Load())},
		{name: "millrace_webhook_review_seconds", help: "Time from a review to its answer.", distribution: &w.handler.Seconds},
		{name: name, help: help, labels: labels("injected", ""), value: float64(w.handler.Injected.Load())},
		{name: name, help: help, labels: labels("refused", ""), value: float64(w.handler.Refused.Load())},
		{name: name, help: help, labels: labels("bad", ""), value: float64(w.handler.Bad.Load())},
	}
	for _, reason := range webhook.Reasons() {
		list = append(list, sample{name: name, help: help, labels: labels("skipped", reason), value: float64(w.handler.Skipped[reason].Load())})
	}
	return list
}
