package sidecar

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// The schema is JSON, each of its references leads somewhere, and each type has
// a definition that its names, in any case, lead to.
func TestSchema(t *testing.T) {
	code, out, said := call(t, nil, "schema")
	if code != exitOK || said != "" {
		t.Fatalf("%d %s", code, said)
	}
	var schema struct {
		Defs map[string]struct {
			AllOf []struct {
				If struct {
					Properties struct {
						Type struct{ Pattern string }
					}
				}
				Then struct {
					Ref string `json:"$ref"`
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(out), &schema); err != nil {
		t.Fatal(err)
	}
	for _, ref := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllStringSubmatch(out, -1) {
		if _, ok := schema.Defs[strings.TrimPrefix(ref[1], "#/$defs/")]; !ok {
			t.Errorf("%s leads nowhere", ref[1])
		}
	}
	for _, k := range kinds {
		for _, e := range Catalog().Entries(k.kind) {
			name := kindWord(k.kind) + "-" + e.Name
			if _, ok := schema.Defs[name]; !ok {
				t.Errorf("%s has no definition", name)
			}
			for _, called := range append([]string{e.Name, strings.ToUpper(e.Name)}, e.Aliases...) {
				found := false
				for _, branch := range schema.Defs[kindWord(k.kind)].AllOf {
					if regexp.MustCompile(branch.If.Properties.Type.Pattern).MatchString(called) {
						found = found || branch.Then.Ref == "#/$defs/"+name
					}
				}
				if !found {
					t.Errorf("%s does not lead to %s", called, name)
				}
			}
		}
	}
}
