package sidecar

import (
	_ "embed"
	"io"
	"net/http"
)

var (
	//go:embed page/index.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// pageFile is one file of the page, which is the same for every agent.
type pageFile struct{ text, typ string }

var pageFiles = map[string]pageFile{
	"/":         {pageHTML, "text/html; charset=utf-8"},
	"/page.css": {pageCSS, "text/css; charset=utf-8"},
	"/page.js":  {pageJS, "text/javascript; charset=utf-8"},
}

// pagePolicy lets the page load what it consists of, and talk to this server.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (f pageFile) serve(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", f.typ)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = io.WriteString(w, f.text) // the client is gone
}
