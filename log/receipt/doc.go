// Package receipt proves that a leaf stands in a log that witnesses watch.
//
// A receipt is a C2SP tlog-proof: an inclusion proof and a checkpoint that the
// log signed and witnesses cosigned. Which log, which witnesses and how many of
// them is the reader's [Policy], a C2SP tlog-policy, read more strictly than
// that specification asks. Everything here works offline.
//
// Time comes from cosignatures alone, since the log could claim any. A
// checkpoint's freshness is the largest t such that the cosignatures dated t or
// later satisfy the quorum: a quorum saw the log as it stands at t at the
// earliest. Its seniority is the smallest t such that those dated t or earlier
// satisfy it: by then, a quorum had seen it. A cosignature from the future
// counts for neither, and not for the quorum.
//
// A note is refused as a whole when one of its lines is malformed, when two
// lines are by the same key, or when a line by a known key does not verify;
// lines by unknown keys are what other readers need, and count for nothing.
package receipt

// Bounds on what is read.
const (
	// MaxReceiptBytes bounds a receipt.
	MaxReceiptBytes = 16 << 10
	// MaxNoteBytes bounds a signed checkpoint by itself.
	MaxNoteBytes = 16 << 10
	// MaxSignatures bounds the signature lines of a checkpoint, the log's own
	// and the witnesses', known or not.
	MaxSignatures = 64
	// MaxPolicyBytes bounds the text of a policy.
	MaxPolicyBytes = 64 << 10
	// MaxWitnesses and MaxGroups bound a policy, as far as C2SP tlog-policy
	// asks implementations to go.
	MaxWitnesses = 32
	MaxGroups    = 32
	// MaxTransparentBytes bounds the file of a transparent statement.
	MaxTransparentBytes = 256 << 10
	// MaxReceipts bounds the receipts of a transparent statement: the first and
	// the newest of four logs.
	MaxReceipts = 8
	// MaxLeafBytes bounds a leaf: an entry's length is 16 bits in C2SP
	// tlog-tiles.
	MaxLeafBytes = 65535

	// maxHashes bounds an inclusion proof: a tree has at most 2^63-1 leaves.
	maxHashes = 63
)
