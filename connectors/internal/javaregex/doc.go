// Package javaregex is java.util.regex: the regular expressions of a Flume
// configuration, in Java's syntax and with Java's meaning.
//
//	pattern ── parse ──> tree ──┬── emitRE2 ──> regexp   linear time, no allocations
//	                            └── emitNET ──> regexp2  look-around, references, possessive; a time limit
//
// A pattern is read by a parser of its own, since neither engine has Java's
// syntax: classes with unions and intersections, \Q...\E, \h, \R, (?U), six line
// terminators. The tree is then written for Go's regexp wherever that means the
// same, and that may depend on the text: \b is the same on ASCII only, (?m) on
// a text of one line, and $ needs a translation for each way a text may end
// ([scope]). All other matches go to regexp2, which backtracks as Java does and,
// unlike Java, stops after a limit: [ErrLimit].
//
// What Java has and this has not is refused when the configuration is read:
// \X, \b{g}, \N{name}, (?c), look-behind without a maximum length, and a few
// properties of characters. One thing differs in silence: which text a group
// has after the engine has come back out of it, where no match of the group is
// part of the match (within a negative look-ahead, or a repetition of nothing).
//
// testdata/verdicts.jsonl is what Java 17 finds; e2e/oracle/run.sh makes it.
package javaregex
