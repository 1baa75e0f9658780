// Package log is the log operator's: an append-only log of signed statements
// over Tessera, and the client that everybody else reads and writes it with.
//
// A [Log] takes a statement only from a writer whom its [Admission] names, only
// in the one canonical form of a leaf, and each only once: it remembers the
// payloads and the releases that it holds, rebuilds that memory from its own
// entries when it opens, and reserves both before it adds. The answer is a
// transparent statement: the leaf, and a receipt that the policy's quorum of
// witnesses stands behind. All reads are static files.
//
// A [Client] believes nothing it reads. Checkpoints are verified against a
// [receipt.Policy], entries and receipts against a checkpoint, addenda against
// their digest.
package log
