package sidecar

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes a source tree of a few pages.
func tree(t *testing.T, pages map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	pages["go.mod"] = "module x\n"
	for name, text := range pages {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDocs(t *testing.T) {
	dir := tree(t, map[string]string{
		"README.md":                       "# Hello\n\nSay `<!-- catalogue -->` for a table.\n\n<!-- catalogue -->\nwritten before\n<!-- /catalogue -->\nend\n",
		"core/channel/memory/README.md":   "<!-- keys:channel memory --><!-- /keys -->\n\n<!-- keys:selector multiplexing -->\n<!-- /keys -->\n",
		"docs/reference/source-gone.md":   madeBy + "of a type that is no more\n",
		"docs/reference/by-hand.md":       "written by a person\n",
		"connectors/x/testdata/README.md": "<!-- keys:source nothing -->\n",
	})
	if code, out, said := call(t, nil, "docs", "--check", dir); code != exitFailed || !strings.Contains(said, "stale") || !strings.Contains(out, "README.md") {
		t.Fatalf("%d %s%s", code, out, said)
	}
	if code, _, said := call(t, nil, "docs", dir); code != exitOK {
		t.Fatalf("%d %s", code, said)
	}
	if code, out, _ := call(t, nil, "docs", "--check", dir); code != exitOK || out != "" {
		t.Errorf("written, and stale: %d %s", code, out)
	}
	for name, want := range map[string]string{
		"README.md":                        "[`memory`](docs/reference/channel-memory.md)",
		"connectors/README.md":             "[`memory`](../docs/reference/channel-memory.md)",
		"core/channel/memory/README.md":    "| `transactionCapacity` |",
		"docs/reference/channel-memory.md": "| `capacity` | `100` |",
		"docs/reference/README.md":         "HBase is reached from Java only",
		"docs/reference/by-hand.md":        "written by a person",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, lacks %s:\n%s", name, err, want, text)
		}
	}
	text, _ := os.ReadFile(filepath.Join(dir, "README.md"))
	if strings.Contains(string(text), "written before") || !strings.HasSuffix(string(text), "<!-- /catalogue -->\nend\n") {
		t.Errorf("around the table: %s", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "docs/reference/source-gone.md")); err == nil {
		t.Error("the page of a type that is no more is still there")
	}
}

func TestDocsFaults(t *testing.T) {
	for page, want := range map[string]string{
		"<!-- keys:source nothing -->\n<!-- /keys -->\n": "names no type",
		"<!-- keys:channel memory -->\n":                 "has no <!-- /keys -->",
	} {
		code, _, said := call(t, nil, "docs", tree(t, map[string]string{"README.md": page}))
		if code != exitFailed || !strings.Contains(said, want) {
			t.Errorf("%s: %d %s", page, code, said)
		}
	}
	if code, _, said := call(t, nil, "docs", t.TempDir()); code != exitFailed || !strings.Contains(said, "not the root") {
		t.Errorf("%d %s", code, said)
	}
}
