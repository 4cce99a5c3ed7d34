# docker build .            builds the binary inside
# docker build --build-arg BIN=prebuilt .   takes dist/linux_<arch>/millrace
ARG BIN=build

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETARCH
ARG GOPROXY
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath \
      -ldflags "-s -w -X github.com/millrace/millrace/sidecar.version=${VERSION}" -o /out/millrace .

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/linux_${TARGETARCH}/millrace /out/millrace

FROM ${BIN} AS bin

# CA certificates come from a published base, not from the build stage, so that
# no site's own CA gets into the image.
FROM gcr.io/distroless/static:nonroot AS base

FROM scratch
LABEL org.opencontainers.image.title="millrace" \
      org.opencontainers.image.description="Successor of Apache Flume: an ingestion sidecar with a connector catalogue" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=bin /out/millrace /millrace
# Everything the agent writes lies in a mounted place, which belongs to its user if
# Docker makes it: the root file system may be read-only.
COPY --from=base --chown=65532:65532 /home/nonroot /var/lib/millrace
VOLUME ["/var/lib/millrace"]
USER 65532:65532
ENV HOME=/var/lib/millrace
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/millrace", "healthcheck"]
ENTRYPOINT ["/millrace"]
# A variable MILLRACE_NAME goes before --name, and so on: a pod needs no arguments.
CMD ["agent", "--name", "a1", "--conf-file", "/etc/millrace/flume.conf", "--state-dir", "/var/lib/millrace"]
