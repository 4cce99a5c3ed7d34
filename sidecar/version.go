package sidecar

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is that of the release; the build sets it with -ldflags "-X github.com/millrace/millrace/sidecar.version=1.2.3".
var version string

// build is what is known of this binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Time     string `json:"time,omitempty"` // of the revision
	Go       string `json:"go"`
}

func versionOf() build {
	b := build{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = cmp.Or(b.Version, "devel")
		return b
	}
	b.Version = cmp.Or(b.Version, info.Main.Version, "devel")
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		b.Revision += " with changes"
	}
	b.Revision = cmp.Or(b.Revision, "unknown")
	return b
}

func (b build) short() string { return b.Version }

// version prints five lines, as Flume's does.
func (p *Program) version(args []string) int {
	f := newFlags(p, "version")
	if code, ok := f.parse(args); !ok {
		return code
	}
	b := versionOf()
	fmt.Fprintf(p.Stdout, "Millrace %s, a successor of Apache Flume 1.11\n", b.Version)
	fmt.Fprintln(p.Stdout, "Source code repository: https://github.com/millrace/millrace")
	fmt.Fprintf(p.Stdout, "Revision: %s\n", b.Revision)
	fmt.Fprintf(p.Stdout, "Revision made on %s\n", cmp.Or(b.Time, "an unknown day"))
	fmt.Fprintf(p.Stdout, "Compiled with %s for %s/%s\n", b.Go, runtime.GOOS, runtime.GOARCH)
	return exitOK
}
