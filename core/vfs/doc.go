// Package vfs is the file system as an interface, so that everything that
// promises durability can be tested against every crash.
//
//	FS ──1:n── File
//	 ├ OS()        the real one, with the calls durability needs: fdatasync,
//	 │             directory sync, allocation, advisory locks, free space
//	 ├ NewMem()    in memory; knows what is synced and what is not, and makes
//	 │             crash clones: what a disk could hold after the power is gone
//	 └ NewFault()  around either: counts operations, fails or "crashes" at the
//	               one a script names
//
// # What is assumed of a disk
//
// Those who write files through this package may assume this and no more; Mem
// models exactly it:
//
//   - Sync (fdatasync on Linux) that returned nil means that all content
//     written before, and the size needed to read it, survive. On Darwin it is
//     F_FULLFSYNC.
//   - After a Sync that failed nothing is known about what was written since
//     the last good one; a later Sync that returns nil does not repair that
//     (the kernel has marked the pages clean). Such a file's tail must not be
//     trusted again.
//   - Without Sync any subset of what was written may survive, in units of a
//     sector (512 bytes) or page: later writes may be kept and earlier ones
//     lost, and the last write may be torn.
//   - Powersafe overwrite: writing bytes never damages neighbours that are
//     synced, even in the same sector.
//   - A created, renamed or removed name survives only after SyncDir of its
//     directory, whatever was done to the file. A rename is atomic.
//   - Allocate reserves space that reads as zeros and enlarges the file.
//
// Paths are those of the operating system; Mem takes slash-separated ones.
package vfs
