package tpm

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// claims says what the quote says, after every check.
func (a *appraisal) claims() *hardware.Claims {
	c := &hardware.Claims{
		Platform:  hardware.TPM,
		Isolation: hardware.None,
		Registers: make(map[string]string),
		UserData:  slices.Clone(a.attest.extraData),
		Flags: map[string]bool{
			"clockSafe": a.attest.safe,
			"eventLog":  a.log != nil,
		},
	}
	for _, i := range MandatoryPCRs() {
		v := a.pcrs[i]
		c.Registers[fmt.Sprintf("pcr%d", i)] = hex.EncodeToString(v[:])
	}
	fact := func(name, format string, args ...any) {
		c.Facts = append(c.Facts, hardware.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	for _, i := range a.selected {
		if !slices.Contains(MandatoryPCRs(), i) {
			fact(fmt.Sprintf("pcr%d", i), "%x", a.pcrs[i])
		}
	}
	fact("attestationKey", "%s", fingerprint(a.key))
	if a.ak.nameAlg == tpm2.TPMAlgSHA256 { // part 1, §16: the algorithm, then the hash
		fact("attestationKeyName", "%04x%x", uint16(a.ak.nameAlg), sha256.Sum256(a.evidence.AKPublic))
	}
	fact("clockMilliseconds", "%d", a.attest.clock)
	fact("resetCount", "%d", a.attest.resetCount)
	fact("restartCount", "%d", a.attest.restartCount)
	fact("firmwareVersion", "%#016x", a.attest.firmware)
	if a.log != nil {
		c.Facts = append(c.Facts, a.log.facts()...)
	}
	return c
}

// fingerprint is the SHA-256 of a key's DER SubjectPublicKeyInfo.
func fingerprint(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "of an unknown kind"
	}
	return fmt.Sprintf("SHA-256 %x", sha256.Sum256(der))
}
