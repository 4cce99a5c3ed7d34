// Package fileid tells files apart whatever their names are, for sources that
// come back to their place in a file: by inode, by when the file was made, and
// by the bytes before a place.
package fileid
