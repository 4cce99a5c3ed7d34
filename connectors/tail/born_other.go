//go:build !linux

package tail

import "github.com/millrace/millrace/core/vfs"

// born is not known here: content alone tells an inode that is used again.
func born(vfs.File) int64 { return 0 }
