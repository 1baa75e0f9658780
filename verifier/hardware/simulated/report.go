package simulated

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/google/go-sev-guest/abi"
)

// Report holds what a guest and its launch decide about an attestation report
// (SEV-SNP ABI 56860, ATTESTATION_REPORT). The chip adds its own part.
type Report struct {
	Version         uint32 // 0 stands for 2
	GuestSVN        uint32
	GuestPolicy     uint64 // 0 stands for 0x30000: ABI 0.0, SMT allowed, no debugging
	VMPL            uint32
	PlatformInfo    uint64
	ReportData      [64]byte
	LaunchDigest    [48]byte
	HostData        [32]byte
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
}

// Report makes a signed report of 1184 bytes.
func (a *AMD) Report(r Report) ([]byte, error) {
	raw := make([]byte, abi.ReportSize)
	u32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(raw[at:], v) }
	u64 := func(at int, v uint64) { binary.LittleEndian.PutUint64(raw[at:], v) }
	if r.Version == 0 {
		r.Version = 2
	}
	if r.GuestPolicy == 0 {
		r.GuestPolicy = 0x30000
	}
	u32(0x00, r.Version)
	u32(0x04, r.GuestSVN)
	u64(0x08, r.GuestPolicy)
	u32(0x30, r.VMPL)
	u32(0x34, abi.SignEcdsaP384Sha384)
	u64(0x40, r.PlatformInfo)
	if a.Chip.CSP != "" {
		u32(0x48, 1<<2)
	}
	copy(raw[0x50:], r.ReportData[:])
	copy(raw[0x90:], r.LaunchDigest[:])
	copy(raw[0xC0:], r.HostData[:])
	copy(raw[0xE0:], r.IDKeyDigest[:])
	copy(raw[0x110:], r.AuthorKeyDigest[:])
	if _, err := rand.Read(raw[0x140:0x160]); err != nil { // REPORT_ID
		return nil, fmt.Errorf("choosing a report id: %w", err)
	}
	copy(raw[0x160:], bytes.Repeat([]byte{0xff}, 32)) // REPORT_ID_MA: no agent
	for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
		copy(raw[at:], a.tcb())
	}
	if r.Version >= 3 {
		copy(raw[0x188:], a.processor())
	}
	if a.Chip.CSP == "" {
		id := a.Chip.ID[:]
		if a.Chip.turin() {
			id = id[:8]
		}
		copy(raw[0x1A0:], id)
	}
	copy(raw[0x1E8:], []byte{0, 55, 1, 0, 0, 55, 1, 0}) // firmware 1.55.0, current and committed
	return raw, a.Sign(raw)
}

// tcb is the chip's TCB_VERSION, little-endian.
func (a *AMD) tcb() []byte {
	t := a.Chip.TCB
	if a.Chip.turin() {
		return []byte{t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode}
	}
	return []byte{t.Bootloader, t.TEE, 0, 0, 0, 0, t.SNP, t.Microcode}
}

// processor is the family, model and stepping of the chip's product line.
func (a *AMD) processor() []byte {
	switch a.Chip.Product[0] {
	case 'G':
		return []byte{0x19, 0x11, 1}
	case 'T':
		return []byte{0x1a, 0x02, 0}
	}
	return []byte{0x19, 0x01, 1}
}

// Sign signs raw, 1184 bytes of any content, in place with the chip's key: a
// forger with the key could make any report. Tests are that forger.
func (a *AMD) Sign(raw []byte) error {
	if len(raw) != abi.ReportSize {
		return fmt.Errorf("a report has %d bytes, not %d", abi.ReportSize, len(raw))
	}
	digest := sha512.Sum384(abi.SignedComponent(raw))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, digest[:])
	if err != nil {
		return fmt.Errorf("signing a simulated report: %w", err)
	}
	return abi.SetSignature(r, s, raw)
}
