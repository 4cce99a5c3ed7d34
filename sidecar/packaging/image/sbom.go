package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
)

// The parts of an SPDX 2.3 document (ISO/IEC 5962) that are needed here.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Describes     []string           `json:"documentDescribes"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Version       string         `json:"versionInfo"`
		Download      string         `json:"downloadLocation"`
		FilesAnalyzed bool           `json:"filesAnalyzed"`
		Concluded     string         `json:"licenseConcluded"`
		Declared      string         `json:"licenseDeclared"`
		Copyright     string         `json:"copyrightText"`
		Purpose       string         `json:"primaryPackagePurpose"`
		Checksums     []spdxChecksum `json:"checksums,omitempty"`
		Refs          []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const unsaid = "NOASSERTION"

// billOfMaterials lists what the linker has put into a binary, by the note that it
// left there: every module with its version, and Go itself. Two runs give the same.
func billOfMaterials(binary, version, system, arch string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what %s is made of: %w", binary, err)
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:])
	root := spdxPackage{
		ID: "SPDXRef-millrace", Name: "millrace", Version: version, Download: unsaid, Concluded: "Apache-2.0", Declared: "Apache-2.0", Copyright: unsaid,
		Purpose: "APPLICATION", Checksums: []spdxChecksum{{"SHA256", hash}}, Refs: []spdxRef{purl(info.Main.Path, version)},
	}
	d := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "millrace-" + version + "-" + system + "-" + arch,
		Namespace: "https://spdx.org/spdxdocs/millrace-" + hash,
		Creation:  spdxCreation{built(info), []string{"Organization: Millrace maintainers", "Tool: millrace-image"}},
		Describes: []string{root.ID}, Packages: []spdxPackage{root},
		Relationships: []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root.ID}},
	}
	add := func(name, version string, ref spdxRef) {
		p := spdxPackage{
			ID: "SPDXRef-" + notInID.ReplaceAllString(name, "-"), Name: name, Version: version, Download: unsaid, Concluded: unsaid, Declared: unsaid,
			Copyright: unsaid, Purpose: "LIBRARY", Refs: []spdxRef{ref},
		}
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, spdxRelationship{root.ID, "CONTAINS", p.ID})
	}
	add("stdlib", strings.TrimPrefix(info.GoVersion, "go"), purl("stdlib", strings.TrimPrefix(info.GoVersion, "go")))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(m.Path, m.Version, purl(m.Path, m.Version))
	}
	return json.MarshalIndent(d, "", " ")
}

// notInID is what an identifier of SPDX may not have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func purl(path, version string) spdxRef {
	return spdxRef{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}
}

// built is the time of the revision that was built, so that building again makes no difference.
func built(info *debug.BuildInfo) string {
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			return s.Value
		}
	}
	return "1970-01-01T00:00:00Z"
}
