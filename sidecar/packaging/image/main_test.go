package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entries are the files of an archive, by name.
func entries(t *testing.T, text []byte) (all map[string]*tar.Header, content map[string][]byte) {
	t.Helper()
	all, content = map[string]*tar.Header{}, map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, content
		}
		must(t, err)
		all[h.Name] = h
		content[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
}

// build makes the image of the project's Dockerfile with this test as its binary.
func build(t *testing.T) (image, sbom []byte) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	must(t, run("../../../Dockerfile", "millrace:1.2.3", dir, []string{"linux/amd64=" + self, "linux/arm64=" + self}))
	image, err = os.ReadFile(filepath.Join(dir, "millrace-image.tar"))
	must(t, err)
	sbom, err = os.ReadFile(filepath.Join(dir, "millrace-linux-arm64.spdx.json"))
	must(t, err)
	return image, sbom
}

// The image is what the Dockerfile says, every blob is what its name says, and a second run makes the same.
func TestImage(t *testing.T) {
	image, _ := build(t)
	if again, _ := build(t); !bytes.Equal(again, image) {
		t.Error("two runs make two images")
	}
	_, files := entries(t, image)
	for name, text := range files {
		if want, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
			if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
				t.Errorf("%s is not what it is called", name)
			}
		}
	}
	at := func(d descriptor, v any) []byte {
		text := files[blobName(d.Digest)]
		if len(text) != d.Size {
			t.Fatalf("%s has %d bytes, not %d", d.Digest, len(text), d.Size)
		}
		if v != nil {
			must(t, json.Unmarshal(text, v))
		}
		return text
	}
	var index, all struct{ Manifests []descriptor }
	must(t, json.Unmarshal(files["index.json"], &index))
	at(index.Manifests[0], &all)
	if len(all.Manifests) != 2 || *all.Manifests[1].Platform != (platform{"arm64", "linux"}) {
		t.Fatalf("%+v", all)
	}
	for _, m := range all.Manifests {
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		at(m, &manifest)
		var config struct {
			Architecture string
			Config       imageConfig
			RootFS       struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		at(manifest.Config, &config)
		c := config.Config
		if config.Architecture != m.Platform.Architecture || c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/millrace"}) ||
			!slices.Equal(c.Cmd, []string{"agent", "--name", "a1", "--conf-file", "/etc/millrace/flume.conf", "--state-dir", "/var/lib/millrace"}) || !slices.Contains(c.Env, "HOME=/var/lib/millrace") || c.Labels["org.opencontainers.image.version"] != "1.2.3" ||
			c.Labels["org.opencontainers.image.licenses"] != "Apache-2.0" || c.Healthcheck == nil || c.Healthcheck.Interval != 10*time.Second ||
			!slices.Equal(c.Healthcheck.Test, []string{"CMD", "/millrace", "healthcheck"}) {
			t.Errorf("%+v", config)
		}
		root := map[string]*tar.Header{}
		for i, l := range manifest.Layers {
			z, err := gzip.NewReader(bytes.NewReader(at(l, nil)))
			must(t, err)
			flat, err := io.ReadAll(z)
			must(t, err)
			if digest(flat) != config.RootFS.DiffIDs[i] {
				t.Errorf("layer %d is not its diff_id", i)
			}
			here, _ := entries(t, flat)
			for name, h := range here {
				root[name] = h
			}
		}
		if h := root["var/lib/millrace/"]; len(root) != 3 || root["millrace"].Mode != 0o755 || h == nil || h.Uid != 65532 || h.Typeflag != tar.TypeDir {
			t.Errorf("%v", root)
		}
	}
	var docker []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	must(t, json.Unmarshal(files["manifest.json"], &docker))
	if len(docker) != 1 || docker[0].RepoTags[0] != "millrace:1.2.3" || files[docker[0].Config] == nil || files[docker[0].Layers[1]] == nil {
		t.Errorf("%+v", docker)
	}
}

// Everything that an SPDX document must have is there, and every package is in a relationship.
func TestBillOfMaterials(t *testing.T) {
	_, text := build(t)
	var d spdxDocument
	must(t, json.Unmarshal(text, &d))
	if d.Version != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.ID != "SPDXRef-DOCUMENT" || !strings.HasPrefix(d.Namespace, "https://") || len(d.Creation.Creators) == 0 {
		t.Errorf("%s", text)
	}
	if _, err := time.Parse(time.RFC3339, d.Creation.Created); err != nil {
		t.Error(err)
	}
	related := map[string]bool{}
	for _, r := range d.Relationships {
		related[r.To] = true
	}
	seen := map[string]bool{}
	for _, p := range d.Packages {
		if p.Name == "" || p.Version == "" || seen[p.ID] || !related[p.ID] || notInID.MatchString(p.ID) || !strings.HasPrefix(p.Refs[0].Locator, "pkg:golang/") {
			t.Errorf("%+v", p)
		}
		seen[p.ID] = true
	}
	for _, want := range []string{"SPDXRef-millrace", "SPDXRef-stdlib", "SPDXRef-golang.org-x-crypto-x509roots-fallback"} {
		if !seen[want] {
			t.Errorf("there is no %s in %s", want, text)
		}
	}
}

// An instruction that is not known is refused: the image would be another one.
func TestParseRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"FROM x\nONBUILD RUN x":                   "ONBUILD",
		"FROM x\nSTOPSIGNAL 9\n":                  "STOPSIGNAL",
		"FROM x\nHEALTHCHECK --retries=3 CMD [1]": "retries",
		"FROM x\nENTRYPOINT /millrace":            "invalid character",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	c, err := parse("# a comment\nFROM x\nRUN y\nFROM scratch\nLABEL a=\"b c\" \\\n # within\n  d=e\n")
	if err != nil || c.Labels["a"] != "b c" || c.Labels["d"] != "e" {
		t.Errorf("%+v %v", c, err)
	}
}
