package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// pcrCount is how many PCRs firmware and boot loaders write; 16 to 23 are
// resettable or for debugging, and no boot touches them.
const pcrCount = 16

// separator is the digest of the EV_SEPARATOR event, four zero bytes, with
// which firmware closes a PCR before it hands over (TCG PC Client Platform
// Firmware Profile 3.3.4).
var separator = sha256.Sum256(make([]byte, 4))

// pcrBank is the SHA-256 bank of a TPM after a reset, and the log of what
// extended it.
type pcrBank struct {
	values [pcrCount][32]byte
	events []Event
}

// extend does what TPM2_PCR_Extend does: new = SHA-256(old || digest).
func (b *pcrBank) extend(pcr int, digest [32]byte, description string) {
	b.values[pcr] = sha256.Sum256(append(b.values[pcr][:], digest[:]...))
	b.events = append(b.events, Event{
		Register:    pcrName(pcr),
		Description: description,
		Digest:      hex.EncodeToString(digest[:]),
	})
}

// extendData extends with the digest of data.
func (b *pcrBank) extendData(pcr int, data []byte, description string) {
	b.extend(pcr, sha256.Sum256(data), description)
}

func pcrName(pcr int) string { return "pcr" + strconv.Itoa(pcr) }
