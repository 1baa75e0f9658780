package policies

import (
	"crypto"
	"crypto/x509"
	"slices"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Version is the value of the key `vitrine` in the policies that this package
// reads.
const Version = "policy/v1"

// MaxBytes is the size of the largest policy file that is read.
const MaxBytes = 256 << 10

// Policy is a parsed policy file. It is read-only after [Parse] and may be used
// by several goroutines.
type Policy struct {
	Name    string // of the policy, for people
	Product string // the one whose releases are accepted

	Logs       []*receipt.Policy // at least one; a receipt of any of them counts
	Publishers []Key             // at least one

	Receipt      ReceiptAges
	EvidenceAge  time.Duration // how old evidence without a nonce may be
	MinimumEpoch int64         // lowest accepted securityEpoch, at least 1

	Rebuilders  Rebuilders
	Channel     Channel
	Withdrawers Withdrawers
	Machines    Machines

	Platforms []Platform // at least one, each platform once
	Rules     []*Rule    // each must be true; may be empty
}

// Key is a public key with the name that people know its holder by.
type Key struct {
	Name string
	*statement.PublicKey
}

// ReceiptAges bounds what the witnesses' clocks may say about the receipt of a
// release. Exactly one of MaxAge and Unchecked is set.
type ReceiptAges struct {
	MaxAge    time.Duration // the longest time since a quorum last cosigned
	MinAge    time.Duration // how long ago a quorum must first have cosigned
	Unchecked string        // why neither is checked
}

// Rebuilders are those of whom Threshold must have got the same bits from the
// source. Exactly one of Threshold and Unchecked is set.
type Rebuilders struct {
	Threshold int
	Keys      []Key
	Unchecked string
}

// Channel says who tells which releases are current. Exactly one of Name and
// Unchecked is set.
type Channel struct {
	Name      string
	MaxAge    time.Duration // since the channel statement was issued
	Keys      []Key
	Unchecked string
}

// Withdrawers may take a release, an artefact or a register back. Exactly one
// of Keys and Unchecked is set.
type Withdrawers struct {
	Keys      []Key
	Unchecked string
}

// Machines says which machines are vouched for. No statement about machines is
// specified yet, so that there is nothing but the reason for not asking.
type Machines struct {
	Unchecked string
}

// Platform is a kind of hardware whose evidence is accepted.
type Platform struct {
	Platform string // register table of docs/formats.md: "tpm", "sev-snp"

	// Isolation is the least that is accepted; a platform that gives more is
	// fine.
	Isolation hardware.Isolation

	// AttestationKeys (tpm) are the keys that may quote.
	AttestationKeys []crypto.PublicKey

	// SimulatedRoots (sev-snp) are throw-away vendor roots. Evidence under
	// them is marked as simulated and has no isolation.
	SimulatedRoots []*x509.Certificate

	// MinimumTCB (sev-snp) is the lowest accepted version of each part of the
	// firmware.
	MinimumTCB TCB

	// Any names the registers that a release may leave open.
	Any []string
}

// TCB is a version of AMD's SEV-SNP firmware by component (SEV-SNP ABI 56860,
// TCB_VERSION).
type TCB struct {
	FMC                             uint8 // Turin only; 0 where there is none
	Bootloader, TEE, SNP, Microcode uint8
}

// Platform returns the section for a platform, or nil if its evidence is not
// accepted.
func (p *Policy) Platform(name string) *Platform {
	for i := range p.Platforms {
		if p.Platforms[i].Platform == name {
			return &p.Platforms[i]
		}
	}
	return nil
}

// images are the registers that alone say what was loaded: with one of them
// open, nothing in the evidence tells one image from another.
var images = map[string][]string{
	"sev-snp": {"launchDigest"},
	"tdx":     {"mrtd"},
	"nitro":   {"pcr0"},
	"tpm":     {"pcr4"}, // whatever the firmware starts can extend those after it
}

// MayBeOpen reports whether a policy can allow a release to leave a register
// open. The register that measures the image itself never can be: a verdict
// over all others would still name a release, and be true of any.
func MayBeOpen(platform, register string) bool {
	return slices.Contains(statement.MandatoryRegisters(platform), register) && !slices.Contains(images[platform], register)
}

// KeyNamed returns the name that a policy's list gives to a key, for messages.
func KeyNamed(keys []Key, key *statement.PublicKey) string {
	for _, k := range keys {
		if k.Hint() == key.Hint() {
			return k.Name
		}
	}
	return ""
}

// PublicKeys returns the keys without their names, as
// [statement.Signed.VerifyAny] takes them.
func PublicKeys(keys []Key) []*statement.PublicKey {
	out := make([]*statement.PublicKey, len(keys))
	for i, k := range keys {
		out[i] = k.PublicKey
	}
	return out
}
