// Package tpm appraises quotes of a TPM 2.0: bytes in, claims or one coded
// refusal out.
package tpm

import (
	"crypto"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Evidence is a quote and what is needed to read it.
type Evidence struct {
	// Attest is the TPMS_ATTEST that TPM2_Quote returned, and Signature the
	// TPMT_SIGNATURE over it.
	Attest, Signature []byte
	// AKPublic is the TPMT_PUBLIC of the key that signed.
	AKPublic []byte
	// PCRs holds the value of every quoted PCR (SHA-256 bank), by index. The
	// quote signs their digest alone.
	PCRs map[int][32]byte
	// EventLog is the firmware's event log (TCG PC Client, crypto agile), or
	// nil.
	EventLog []byte
}

// Options say what an appraisal rests on. The zero value refuses everything.
type Options struct {
	// AttestationKeys are the keys that may quote (*ecdsa.PublicKey on P-256,
	// *rsa.PublicKey). A TPM's own word for its key is worth nothing, so at
	// least one is required.
	AttestationKeys []crypto.PublicKey
	// RequireEventLog refuses evidence without an event log. A log that is
	// given is always replayed.
	RequireEventLog bool
}

// Verify appraises a quote. A refusal is a [*hardware.Rejection]. Claims of a
// TPM alone always say isolation none: the TPM belongs to its host.
func Verify(e Evidence, opts Options) (*hardware.Claims, error) {
	return nil, hardware.Refuse("hardware/unseen", "quotes of %d bytes are not appraised yet", len(e.Attest))
}
