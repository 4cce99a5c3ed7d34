//go:build !crashpoints

package sidecar

import "github.com/millrace/millrace/core/vfs"

// filesystem is what agents work on.
func filesystem() vfs.FS { return vfs.OS() }
