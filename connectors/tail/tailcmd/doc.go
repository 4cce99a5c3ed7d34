// Package tailcmd is the command `millrace tail`: the `tail -F` of images that
// have none. The exec source runs it as a child process, on purpose: the
// library it stands on, hpcloud/tail, ends the process when it cannot stat a
// file, and cannot always be stopped.
//
// What is there when it starts is copied by the package itself; the library
// follows. So the pitfalls of the library are these:
//
//   - A last line without newline is shown when its newline comes.
//   - It polls, 20 times a second: with inotify it would not see a removal.
//   - What a rotation leaves unread in the old file is lost, as with GNU tail -F.
//   - Without -F a file ends when it is renamed or removed, and the command with
//     the last file; GNU tail goes on with the renamed file.
//
// The taildir source has none of these and is ten times as fast.
package tailcmd
