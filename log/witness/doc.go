// Package witness is a transparency log witness: it cosigns the checkpoints of
// the logs it knows, each only if it extends the last one it cosigned, and
// speaks the protocol of https://c2sp.org/tlog-witness.
//
// What the witness must never do is cosign two checkpoints of one log that do
// not agree. So it remembers the last one of each log in a file of its own,
// which is replaced in one step and synced before any cosignature leaves; one
// request at a time is decided for each log; and one process holds the folder.
// A folder that was lost or put back from a backup breaks the promise: the
// witness would start over, or from an older tree. Make a new key then.
//
// The protocol is written here over torchwood and x/mod/sumdb rather than taken
// from github.com/transparency-dev/witness: that module's persistence is
// in-memory, SQLite or Spanner, importing it raises two modules that Tessera
// pins, and its first-use path cosigns without comparing the old size.
package witness
