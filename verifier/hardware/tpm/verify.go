package tpm

import (
	"crypto"

	"github.com/google/go-tpm/tpm2"
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
	// quote signs their digest alone. Nil stands for the values to which
	// EventLog replays.
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

// userDataBytes is the length of the user data that a quote carries
// (docs/formats.md).
const userDataBytes = 32

// MandatoryPCRs returns the PCRs that a quote must cover, in order: the
// registers of platform tpm in docs/formats.md.
func MandatoryPCRs() []int { return []int{0, 2, 4, 5, 7, 9, 11, 12, 13, 15} }

// appraisal is one quote on its way through the checks.
type appraisal struct {
	opts     Options
	evidence Evidence

	attest    attest
	selected  []int // indices, ascending
	ak        public
	key       crypto.PublicKey
	signature signature
	log       *eventLog // nil without a log
	pcrs      map[int][32]byte
	replayed  bool // pcrs come from the log
}

// Verify appraises a quote. A refusal is a [*hardware.Rejection]. Claims of a
// TPM alone always say isolation none: the TPM belongs to its host.
func Verify(e Evidence, opts Options) (*hardware.Claims, error) {
	return verify(e, opts, checks)
}

// verify runs the given checks; tests leave one out.
func verify(e Evidence, opts Options, checks []check) (*hardware.Claims, error) {
	if len(opts.AttestationKeys) == 0 {
		return nil, hardware.Refuse("hardware/options", "no attestation key was named that may quote")
	}
	a := &appraisal{opts: opts, evidence: e}
	for _, read := range []func() *hardware.Rejection{a.readAttest, a.readKey, a.readSignature, a.readEventLog} {
		if r := read(); r != nil {
			return nil, r
		}
	}
	if a.pcrs = e.PCRs; a.pcrs == nil && a.log != nil {
		a.pcrs, a.replayed = make(map[int][32]byte, len(a.selected)), true
		for _, i := range a.selected {
			a.pcrs[i] = a.log.replay[i]
		}
	}
	for _, c := range checks {
		if r := c.run(a); r != nil {
			return nil, r
		}
	}
	return a.claims(), nil
}

func (a *appraisal) readAttest() *hardware.Rejection {
	data := a.evidence.Attest
	// The type comes first: another one has another body.
	if kind, ok := attestKind(data); ok && kind != tpm2.TPMSTAttestQuote {
		return hardware.Refuse("hardware/tpm/attest-type", "the attested structure has type %#04x; a quote has %#04x", uint16(kind), uint16(tpm2.TPMSTAttestQuote))
	}
	var err error
	if a.attest, err = parseAttest(data); err != nil {
		return hardware.Refuse("hardware/tpm/attest-malformed", "reading a TPMS_ATTEST of %d bytes: %v", len(data), err)
	}
	return a.readSelection()
}

// readSelection lists the PCRs of the first selection; that there is only one
// is a check.
func (a *appraisal) readSelection() *hardware.Rejection {
	if len(a.attest.selections) == 0 {
		return hardware.Refuse("hardware/tpm/pcr-selection-malformed", "the quote selects no PCR")
	}
	// A TPM of the PC Client profile has 24 PCRs, a bit each.
	const bitmapBytes = 3
	bitmap := a.attest.selections[0].bitmap
	if len(bitmap) != bitmapBytes {
		return hardware.Refuse("hardware/tpm/pcr-selection-malformed", "the quote's PCR bitmap has %d bytes, not %d", len(bitmap), bitmapBytes)
	}
	a.selected = make([]int, 0, 8*bitmapBytes)
	for i := range 8 * bitmapBytes {
		if bitmap[i/8]>>(i%8)&1 == 1 {
			a.selected = append(a.selected, i)
		}
	}
	return nil
}
