package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Platforms, as they are named in statements and evidence.
const (
	PlatformTPM = "tpm"
	PlatformSNP = "sev-snp"
)

// Result is a prediction: the registers of one platform, what they were
// computed from, and how.
type Result struct {
	// Platform is "tpm" or "sev-snp" (also "sev-es" and "sev", which no
	// statement carries, see [SNP]).
	Platform string `json:"platform"`
	// Registers maps a register's name to its value in lower-case hex:
	// "pcr0" to "pcr15" (32 bytes, SHA-256 bank), or "launchDigest" (48 bytes)
	// with the launch parameters "guestPolicy" (8 bytes, big-endian), "vmpl"
	// (4 bytes, big-endian), "hostData" (32 bytes) and "idKeyDigest" (48 bytes).
	Registers map[string]string `json:"registers"`
	// Undetermined maps each register of the platform that is not in Registers
	// to the reason, a phrase without a full stop.
	Undetermined map[string]string `json:"undetermined,omitempty"`
	// Inputs lists what was measured, in a fixed order.
	Inputs []Input `json:"inputs"`
	// Events lists the measurements in the order in which they are made.
	Events []Event `json:"events"`
}

// Input is something that was measured.
type Input struct {
	// Name says which: "uki", "vars", "gpt", "firmware", "kernel", "initrd",
	// "cmdline" or "svsm".
	Name string `json:"name"`
	// SHA256 is the digest of its bytes in lower-case hex.
	SHA256 string `json:"sha256"`
	// Size is its length in bytes.
	Size int64 `json:"size"`
}

// Event is one step of a measurement.
type Event struct {
	// Register is the register that the step changes.
	Register string `json:"register"`
	// Description says what is measured, for people.
	Description string `json:"description"`
	// Digest is lower-case hex. For a TPM it is the SHA-256 digest with which
	// the PCR is extended; for a launch digest it is the register's value after
	// the step.
	Digest string `json:"digest"`
}

// hashInput reads r to its end, once, and describes it.
func hashInput(name string, r io.Reader) (Input, [32]byte, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return Input{}, [32]byte{}, fmt.Errorf("hashing the %s: %w", name, err)
	}
	sum := [32]byte(h.Sum(nil))
	return Input{Name: name, SHA256: hex.EncodeToString(sum[:]), Size: n}, sum, nil
}

// section returns a reader over the whole of s from its beginning, whatever
// has been read from s before.
func section(s *io.SectionReader) *io.SectionReader {
	return io.NewSectionReader(s, 0, s.Size())
}

// readAt reads length bytes at offset, which must lie inside s. what names the
// structure for the error.
func readAt(s *io.SectionReader, offset, length int64, what string) ([]byte, error) {
	if offset < 0 || length < 0 || offset > s.Size() || length > s.Size()-offset {
		return nil, fmt.Errorf("%s at offset %#x needs %d bytes, and the file ends at %#x", what, offset, length, s.Size())
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(s, offset, length), b); err != nil {
		return nil, fmt.Errorf("reading %s at offset %#x: %w", what, offset, err)
	}
	return b, nil
}
