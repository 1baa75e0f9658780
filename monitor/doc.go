// Package monitor watches a log on behalf of those who cannot: it follows every
// entry from the first, audits it, builds each release again from recipe and
// lock, and says in the log what came out.
//
// One step of a monitor is: get a checkpoint that the policy's quorum cosigned,
// check that it extends the last one, audit each new entry in order, then
// rebuild what was released. What it knows is on disk before it acts on it, and
// a statement that it is about to publish is on disk before it is sent, so that
// a monitor that was killed goes on where it was and says nothing twice.
//
// An [Alert] is for a person. A release that could not be built is none: a
// mirror that rots is not an attack, and an alarm that cannot tell the two apart
// is one that people learn to ignore. It stands in the log as could-not-build.
package monitor
