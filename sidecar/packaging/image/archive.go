package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Media types of the OCI image specification.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// archive is an OCI image layout in the making.
type archive struct {
	tag     string
	files   []file // in the order that they are written
	images  []descriptor
	written map[string]bool
	docker  []byte // manifest.json, of the first image
}

type file struct {
	name  string // with a slash at its end a directory
	text  []byte
	mode  int64
	owner int // user and group
}

// add adds the image of one architecture and returns the size of its layers.
func (a *archive) add(system, arch, binary string, c imageConfig) (size int, err error) {
	text, err := os.ReadFile(binary)
	if err != nil {
		return 0, err
	}
	type rootfs struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	config := struct {
		platform
		Created string      `json:"created"`
		Config  imageConfig `json:"config"`
		RootFS  rootfs      `json:"rootfs"`
	}{platform{arch, system}, time.Unix(0, 0).UTC().Format(time.RFC3339), c, rootfs{Type: "layers"}}
	var layers []descriptor
	for _, content := range [][]file{
		append([]file{{name: "etc/ssl/certs/ca-certificates.crt", text: authorities(), mode: 0o644}}, volumes(c)...),
		{{name: "millrace", text: text, mode: 0o755}},
	} {
		flat, err := tarOf(content)
		if err != nil {
			return 0, err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return 0, err
		}
		if _, err := z.Write(flat); err != nil {
			return 0, err
		}
		if err := z.Close(); err != nil {
			return 0, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest(flat))
		layers = append(layers, a.blob(layerType, packed.Bytes()))
		size += packed.Len()
	}
	configBlob, err := a.json(configType, config)
	if err != nil {
		return 0, err
	}
	manifest, err := a.json(manifestType, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": configBlob, "layers": layers})
	if err != nil {
		return 0, err
	}
	manifest.Platform = &platform{arch, system}
	a.images = append(a.images, manifest)
	if a.docker == nil {
		var names []string
		for _, l := range layers {
			names = append(names, blobName(l.Digest))
		}
		a.docker, err = json.Marshal([]any{map[string]any{"Config": blobName(configBlob.Digest), "RepoTags": []string{a.tag}, "Layers": names}})
	}
	return size, err
}

// volumes are the directories of volumes: what is made of them belongs to the user, as they do.
func volumes(c imageConfig) (all []file) {
	owner, _, _ := strings.Cut(c.User, ":")
	n, err := strconv.Atoi(owner)
	if err != nil {
		n = 0 // a name, which this image knows none of
	}
	for _, dir := range slices.Sorted(maps.Keys(c.Volumes)) {
		all = append(all, file{name: strings.Trim(dir, "/") + "/", mode: 0o755, owner: n})
	}
	return all
}

// authorities are the certificates that Mozilla trusts without further conditions,
// from a module of Go's own: those of the machine that builds may have more than that.
func authorities() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // into memory
		}
	}
	return all.Bytes()
}

func (a *archive) json(mediaType string, v any) (descriptor, error) {
	text, err := json.Marshal(v)
	return a.blob(mediaType, text), err
}

func (a *archive) blob(mediaType string, text []byte) descriptor {
	d := digest(text)
	if a.written == nil {
		a.written = map[string]bool{}
	}
	if !a.written[d] {
		a.written[d] = true
		a.files = append(a.files, file{name: blobName(d), text: text, mode: 0o644})
	}
	return descriptor{MediaType: mediaType, Digest: d, Size: len(text)}
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blobName(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }

// write writes the layout.
func (a *archive) write(name string) error {
	all, err := a.json(indexType, map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": a.images})
	if err != nil {
		return err
	}
	all.Annotations = map[string]string{"io.containerd.image.name": a.tag, "org.opencontainers.image.ref.name": a.tag}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{all}})
	if err != nil {
		return err
	}
	text, err := tarOf(append([]file{
		{name: "oci-layout", text: []byte(`{"imageLayoutVersion":"1.0.0"}`), mode: 0o644},
		{name: "index.json", text: index, mode: 0o644},
		{name: "manifest.json", text: a.docker, mode: 0o644},
	}, a.files...))
	if err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

// tarOf is an archive of files that are as old as Unix.
func tarOf(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.text)), Mode: f.mode, ModTime: time.Unix(0, 0), Uid: f.owner, Gid: f.owner,
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
