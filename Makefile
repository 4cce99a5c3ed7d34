# Everything a developer does, one target each. `make` alone lists them.
SHELL      := bash
BIN        := build/millrace
GOLANGCI   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0
GOFUMPT    := mvdan.cc/gofumpt@v0.9.1
NFPM       := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
GOBIN      := $(shell go env GOPATH)/bin
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w -X github.com/millrace/millrace/sidecar.version=$(VERSION)
FUZZTIME   ?= 10s
ARCHES     ?= amd64 arm64
PKGVERSION ?= $(shell git describe --tags 2>/dev/null | sed 's/^v//; s/-/+/' | grep . || echo 0.0.0+$(VERSION))

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## the quick start: tail a growing log into a file channel, roll files; ends with ctrl-C
	bash compose/quickstart/run.sh $(BIN)

build: ## the static binary, build/millrace
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) .

test: ## all Go tests
	@set -o pipefail; go test -count=1 -json ./... | go run ./e2e/ledger watch test

race: ## all Go tests under the race detector, and again with released memory poisoned
	go test -count=1 -race ./...
	go test -count=1 -tags poison ./...

fuzz: ## every fuzz target for FUZZTIME each
	bash .ci/fuzz $(FUZZTIME)

MODELS     ?= 8
CRASHES    ?= 80
KILLS      ?= 10000
KILLTIME   ?= 900

crash: ## end it at every fault point: 10,000 kills and power losses in one process, 10,000 SIGKILLs of real ones
	@set -o pipefail; quiet() { grep -v '^\(=== \| *--- PASS\)'; }; \
	MILLRACE_CRASH=$(MODELS) go test -count=1 -timeout 60m -v -run 'Crash|EveryByte' ./core/wal ./core/channeltest ./core/channel/file ./core/channel/spillable ./connectors/file ./connectors/s3 | quiet && \
	MILLRACE_CRASH=$(CRASHES) go test -count=1 -timeout 60m -v -run 'Flow|Mutants' ./e2e/crash | quiet && \
	MILLRACE_KILLS=$(KILLS) MILLRACE_KILLS_FOR=$(KILLTIME) go test -count=1 -timeout 60m -v -tags crashpoints -run SIGKILL ./e2e/crash | quiet

crash-short: ## the same in two minutes
	$(MAKE) crash MODELS=2 CRASHES=4 KILLS=400

check: tools ## format, vet, lint, generated docs, import rules, method pruning, size
	bash .ci/check $(GOBIN)

tools: ## what make check needs, once
	@[ -x $(GOBIN)/golangci-lint ] || go install $(GOLANGCI)
	@[ -x $(GOBIN)/gofumpt ] || go install $(GOFUMPT)

docs: build ## write the generated reference and the tables in the READMEs
	$(BIN) docs .

ledger: ## after make test and make e2e: the tests that prove what Flume's tests expect ran; broken, they fail
	go run ./e2e/ledger ran test e2e
	go run ./e2e/ledger mutants

e2e: build ## real rsyslog, logrotate, syslog-ng, curl, ncat; short form
	bash e2e/run.sh short

e2e-long: build ## the same, as long as it takes
	bash e2e/run.sh long

e2e-k8s: build ## a real Kubernetes: what it takes, and pods that die and lose nothing; built from Go modules first
	bash e2e/k8s/run.sh

bench: build ## ratios against the physical limit and a peer, in one alternating run
	bash bench/run.sh

tail-matrix: build ## what this program and peers lose and repeat when files are rotated: docs/tail-matrix.md
	go run ./bench -tail-matrix

DIST       ?= dist
IMAGE      ?= millrace:$(VERSION)

binaries: ## static binaries for each of ARCHES, in dist
	for arch in $(ARCHES); do \
		CGO_ENABLED=0 GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o $(DIST)/linux_$$arch/millrace . || exit 1; \
	done

image: ## the container image, where Docker runs
	DOCKER_BUILDKIT=1 docker build $(DOCKERFLAGS) --build-arg GOPROXY --build-arg VERSION=$(VERSION) -t $(IMAGE) -t millrace:latest .

image-archive: binaries ## the image for each of ARCHES without Docker, dist/millrace-image.tar, and what is in it (SPDX)
	go -C sidecar/packaging/image build -o $(abspath build/image) .
	build/image -tag $(IMAGE) -out $(DIST) $(foreach arch,$(ARCHES),linux/$(arch)=$(DIST)/linux_$(arch)/millrace)

image-test: ## the archive is what the Dockerfile says; where Docker can be started, both run in it
	go -C sidecar/packaging/image test -count=1 ./...
	MILLRACE_E2E=short go test -tags e2e -count=1 -v -run 'TestImage|TestDockerfile' ./e2e/containers

packages: binaries ## .deb, .rpm and .apk for each of ARCHES, in dist
	@[ -x $(GOBIN)/nfpm ] || go install $(NFPM)
	for arch in $(ARCHES); do \
		bin=dist/linux_$$arch/millrace; \
		for form in deb rpm apk; do \
			ARCH=$$arch BIN=$$bin PKGVERSION='$(PKGVERSION)' $(GOBIN)/nfpm package -f sidecar/packaging/nfpm.yaml -p $$form -t dist/ || exit 1; \
		done; \
	done

.PHONY: help run build test race fuzz crash crash-short check tools docs ledger e2e e2e-long e2e-k8s bench tail-matrix binaries image image-archive image-test packages
.DEFAULT_GOAL := help
