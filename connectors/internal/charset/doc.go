// Package charset knows character encodings by the names that Java and IANA
// give them, for sources that take text in another encoding than UTF-8.
//
// It has UTF-8, UTF-16 and UTF-32 with and without byte order mark, US-ASCII,
// and the encodings of one byte a character (ISO-8859, Windows, KOI8, the PC
// code pages). The encodings of East Asia are left out: their tables are ten
// times as large as all the others together.
//
// Two rules are Java's. A strict reader stops at the first bytes that mean
// nothing, after all that came before; and encoding writes a question mark for
// what the encoding does not have.
package charset
