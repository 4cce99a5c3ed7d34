// image makes the container image of the Dockerfile without a Docker daemon, root
// or a registry, for several architectures, and the bill of materials (SPDX) of
// each binary. The same binaries give the same bytes.
//
//	image -dockerfile Dockerfile -tag millrace:1.2.3 -out dist linux/amd64=dist/linux_amd64/millrace linux/arm64=...
//
// It writes OUT/millrace-image.tar, an OCI image layout with an index of all
// architectures, which is a Docker archive of the first one as well: "docker load",
// "ctr images import", "skopeo copy oci-archive:" and "crane push" take it. What the
// image is, labels, user, environment and the rest, stands in the last stage of the
// Dockerfile and nowhere else.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// largest is how many bytes the image may take to download.
const largest = 20 << 20

func main() {
	dockerfile := flag.String("dockerfile", "Dockerfile", "what the image is")
	tag := flag.String("tag", "millrace:latest", "its name")
	out := flag.String("out", "dist", "directory to write to")
	flag.Parse()
	if err := run(*dockerfile, *tag, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(dockerfile, tag, out string, binaries []string) error {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	config, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	_, version, _ := strings.Cut(filepath.Base(tag), ":")
	config.Labels["org.opencontainers.image.version"] = version
	if len(binaries) == 0 {
		return fmt.Errorf("no binary was named: linux/amd64=FILE")
	}
	a := archive{tag: tag}
	for _, arg := range binaries {
		platform, file, _ := strings.Cut(arg, "=")
		system, arch, ok := strings.Cut(platform, "/")
		if !ok || file == "" {
			return fmt.Errorf("%q is not linux/amd64=FILE", arg)
		}
		size, err := a.add(system, arch, file, config)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %.1f MB compressed\n", platform, float64(size)/1e6)
		if size > largest {
			return fmt.Errorf("%s: the image is over 20 MiB", platform)
		}
		sbom, err := billOfMaterials(file, version, system, arch)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, "millrace-"+system+"-"+arch+".spdx.json"), sbom, 0o644); err != nil {
			return err
		}
	}
	return a.write(filepath.Join(out, "millrace-image.tar"))
}
