//go:build !linux

package fileid

import "github.com/millrace/millrace/core/vfs"

// Born is not known here.
func Born(vfs.File) int64 { return 0 }
