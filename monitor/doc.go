// Package monitor watches a log on behalf of those who cannot: it follows every
// entry from the first, audits it, builds each release again from recipe and
// lock, and says in the log what came out. docs/monitor.md is for those who run
// one.
//
// A monitor does two things at once. It follows: get a checkpoint that the
// policy's quorum cosigned, check that it extends the last one, audit each new
// entry in order. And it rebuilds: what was released and not rebuilt yet, what
// could not be built before, what the log has not taken or has lost. A rebuild
// may take hours, and a fork should not wait for it.
//
// What a monitor knows is on disk before it acts on it: a rebuild's result
// before it is signed, the signed bytes before they are sent, what an entry says
// together with the alerts that it gives. A monitor that was killed goes on
// where it was: it loses no alert, writes none twice, and never says two things
// of one rebuild.
//
// An [Alert] is for a person. A release that could not be built is none: a
// mirror that rots is not an attack, and an alarm that cannot tell the two apart
// is one that people learn to ignore. It stands in the log as could-not-build,
// and is tried again.
//
// The log is not trusted, and neither is anybody who writes to it. What they can
// make a monitor remember, write or compute is bounded.
package monitor
