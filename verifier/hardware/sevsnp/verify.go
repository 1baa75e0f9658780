// Package sevsnp appraises AMD SEV-SNP attestation reports: bytes in, claims
// or one coded refusal out.
package sevsnp

import "github.com/vitrine-dev/vitrine/verifier/hardware"

// Verify appraises a report of 1184 bytes with the certificates that came
// with it. A refusal is a [*hardware.Rejection].
func Verify(report []byte, collateral hardware.Collateral, opts Options) (*hardware.Claims, error) {
	return nil, hardware.Refuse("hardware/unseen", "reports of %d bytes are not appraised yet", len(report))
}
