package sidecar

import (
	"embed"
	"io"
	"net/http"
)

//go:embed page
var pageTree embed.FS

// pageFile is one file of the page, which is the same for every agent.
type pageFile struct{ name, typ string }

var pageFiles = map[string]pageFile{
	"/":         {"index.html", "text/html; charset=utf-8"},
	"/page.css": {"page.css", "text/css; charset=utf-8"},
	"/page.js":  {"page.js", "text/javascript; charset=utf-8"},
}

// pagePolicy lets the page load what it consists of, and talk to this server.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (f pageFile) serve(w http.ResponseWriter) {
	text, err := pageTree.ReadFile("page/" + f.name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.typ)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = io.WriteString(w, string(text)) // the client is gone
}
