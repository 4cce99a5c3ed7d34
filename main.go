// Millrace takes events in, keeps them safe and delivers them: a successor of
// Apache Flume in one static binary. See package sidecar for the program.
package main

import "github.com/millrace/millrace/sidecar"

func main() { sidecar.Main() }
