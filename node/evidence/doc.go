// Package evidence holds the documents that a node serves and takes: the
// evidence document, the push of its sidecar, the challenge, and the user data
// by which hardware binds evidence to a challenge and to keys.
//
// It knows forms and bounds and holds no keys: what a document claims, the
// verifier checks. It is part of every user's trusted base, in the node, so it
// stays small: the standard library and a strict JSON reader.
package evidence

import "github.com/vitrine-dev/vitrine/log/ijson"

// FormatError says which member of a document was refused, why, and what would
// mend it. Path is a JSON pointer (RFC 6901), empty for the whole document.
type FormatError = ijson.Error

// Format strings and paths.
const (
	DocumentFormat = "https://vitrine.dev/evidence/v1"
	PushFormat     = "https://vitrine.dev/push/v1"

	// Path is where a node serves its evidence document.
	Path = "/.well-known/vitrine/evidence"
	// PushPath is where a node takes pushes, on a port of its own.
	PushPath = "/push"
)

// Bounds.
const (
	MaxDocumentBytes = 4 << 20
	MaxPushBytes     = 2 << 20
	// MaxTransparentBytes bounds each transparent statement in a document or push.
	MaxTransparentBytes = 256 << 10
	MaxRebuilds         = 64
	MaxWithdrawals      = 64
	// MaxNoteBytes bounds a signed checkpoint.
	MaxNoteBytes = 16 << 10
	// MaxErrorBytes bounds the body of an [Error].
	MaxErrorBytes = 4 << 10

	snpReportBytes      = 1184     // SEV-SNP ABI (56860), ATTESTATION_REPORT
	maxReportBytes      = 64 << 10 // a TDX quote or a Nitro document
	maxAttestBytes      = 4 << 10
	maxSignatureBytes   = 2 << 10
	maxKeyBytes         = 4 << 10
	maxEndorsementBytes = 1 << 20
	maxDeviceBytes      = 2 << 20
)

// Platforms.
const (
	SEVSNP = "sev-snp"
	TDX    = "tdx"
	Nitro  = "nitro"
	TPM    = "tpm"
)
