package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// check is one thing that must be true. Each is needed: a test leaves each out
// in turn and shows a forgery that then passes.
type check struct {
	name string
	run  func(*appraisal) *hardware.Rejection
}

// Checks names what Verify checks, in order.
func Checks() []string {
	names := make([]string, len(checks))
	for i, c := range checks {
		names[i] = c.name
	}
	return names
}

var checks = []check{
	{"quote: made by a TPM", magic},
	{"key: type", keyType},
	{"key: scheme", keyScheme},
	{"key: restricted", attribute("not-restricted", "restricted", attrRestricted, true)},
	{"key: signs", attribute("not-signing", "sign", attrSign, true)},
	{"key: does not decrypt", attribute("decrypts", "decrypt", attrDecrypt, false)},
	{"key: fixed to its TPM", attribute("not-fixed-tpm", "fixedTPM", attrFixedTPM, true)},
	{"key: fixed to its parent", attribute("not-fixed-parent", "fixedParent", attrFixedParent, true)},
	{"key: made inside the TPM", attribute("imported", "sensitiveDataOrigin", attrSensitiveDataOrigin, true)},
	{"key: trusted", keyTrusted},
	{"quote: user data", extraData},
	{"quote: bank", bank},
	{"quote: mandatory PCRs", mandatoryQuoted},
	{"PCR values: none missing", valuesPresent},
	{"PCR values: none unquoted", valuesQuoted},
	{"PCR values: digest", valuesDigest},
	{"signature: scheme", signatureScheme},
	{"signature", signatureVerifies},
	{"event log: present", logPresent},
	{"event log: replay", logReplays},
}

func magic(a *appraisal) *hardware.Rejection {
	if a.attest.magic != tpm2.TPMGeneratedValue {
		return hardware.Refuse("hardware/tpm/attest-magic", "the structure begins with %#08x, not with %#08x", uint32(a.attest.magic), uint32(tpm2.TPMGeneratedValue))
	}
	return nil
}

func keyType(a *appraisal) *hardware.Rejection {
	switch k := a.key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return hardware.Refuse("hardware/tpm/ak-type", "the attestation key is on %s, not on P-256", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return hardware.Refuse("hardware/tpm/ak-type", "the attestation key is an RSA key of %d bits; 2048 to 4096 are accepted", n)
		}
	}
	return nil
}

// keyScheme holds the key to one scheme, so that no other signature of it can
// be taken for one over a quote.
func keyScheme(a *appraisal) *hardware.Rejection {
	if a.ak.scheme != schemeOf(a.key) || a.ak.hash != tpm2.TPMAlgSHA256 {
		return hardware.Refuse("hardware/tpm/ak-scheme", "the attestation key has the scheme %#04x with the hash %#04x; %#04x with SHA-256 is wanted", uint16(a.ak.scheme), uint16(a.ak.hash), uint16(schemeOf(a.key)))
	}
	return nil
}

func schemeOf(key crypto.PublicKey) tpm2.TPMAlgID {
	if _, ok := key.(*rsa.PublicKey); ok {
		return tpm2.TPMAlgRSASSA
	}
	return tpm2.TPMAlgECDSA
}

func attribute(code, name string, bit uint32, want bool) func(*appraisal) *hardware.Rejection {
	return func(a *appraisal) *hardware.Rejection {
		if got := a.ak.attributes&bit != 0; got != want {
			return hardware.Refuse(hardware.Code("hardware/tpm/ak-"+code), "the attestation key's attribute %s is %v and must be %v", name, got, want)
		}
		return nil
	}
}

func keyTrusted(a *appraisal) *hardware.Rejection {
	for _, k := range a.opts.AttestationKeys {
		if same, ok := k.(interface{ Equal(crypto.PublicKey) bool }); ok && same.Equal(a.key) {
			return nil
		}
	}
	return hardware.Refuse("hardware/tpm/ak-unknown", "the key %s quoted, which is none of the %d that may", fingerprint(a.key), len(a.opts.AttestationKeys))
}

func extraData(a *appraisal) *hardware.Rejection {
	if n := len(a.attest.extraData); n != userDataBytes {
		return hardware.Refuse("hardware/tpm/extra-data", "the quote's extraData has %d bytes, not %d", n, userDataBytes)
	}
	return nil
}

func bank(a *appraisal) *hardware.Rejection {
	s := a.attest.selections
	if len(s) != 1 {
		return hardware.Refuse("hardware/tpm/pcr-bank", "the quote covers %d banks, not one", len(s))
	}
	if s[0].bank != tpm2.TPMAlgSHA256 {
		return hardware.Refuse("hardware/tpm/pcr-bank", "the quote covers the bank %#04x, not SHA-256 (%#04x)", uint16(s[0].bank), uint16(tpm2.TPMAlgSHA256))
	}
	return nil
}

func mandatoryQuoted(a *appraisal) *hardware.Rejection {
	for _, i := range MandatoryPCRs() {
		if !slices.Contains(a.selected, i) {
			return hardware.Refuse("hardware/tpm/pcr-not-quoted", "the quote does not cover PCR %d", i)
		}
	}
	return nil
}

func valuesPresent(a *appraisal) *hardware.Rejection {
	for _, i := range a.selected {
		if _, ok := a.pcrs[i]; !ok {
			return hardware.Refuse("hardware/tpm/pcr-values-missing", "the quote covers PCR %d, whose value did not come with it", i)
		}
	}
	return nil
}

func valuesQuoted(a *appraisal) *hardware.Rejection {
	for _, i := range slices.Sorted(maps.Keys(a.pcrs)) {
		if !slices.Contains(a.selected, i) {
			return hardware.Refuse("hardware/tpm/pcr-values-unquoted", "a value came for PCR %d, which the quote does not cover", i)
		}
	}
	return nil
}

// valuesDigest recomputes TPMS_QUOTE_INFO.pcrDigest: the hash of the selected
// values in ascending order (part 3, TPM2_Quote).
func valuesDigest(a *appraisal) *hardware.Rejection {
	h := sha256.New()
	for _, i := range a.selected {
		v := a.pcrs[i]
		h.Write(v[:])
	}
	got := h.Sum(nil)
	switch {
	case slices.Equal(got, a.attest.pcrDigest):
		return nil
	case a.replayed:
		return hardware.Refuse("hardware/tpm/event-log-replay", "the log replays to PCR values that hash to %x and the quote says %x", got, a.attest.pcrDigest)
	default:
		return hardware.Refuse("hardware/tpm/pcr-digest", "the PCR values hash to %x and the quote says %x", got, a.attest.pcrDigest)
	}
}

func signatureScheme(a *appraisal) *hardware.Rejection {
	if s := a.signature; s.scheme != schemeOf(a.key) || s.hash != tpm2.TPMAlgSHA256 {
		return hardware.Refuse("hardware/tpm/signature-scheme", "the signature has the scheme %#04x with the hash %#04x; %#04x with SHA-256 is wanted", uint16(s.scheme), uint16(s.hash), uint16(schemeOf(a.key)))
	}
	return nil
}

func signatureVerifies(a *appraisal) *hardware.Rejection {
	if !a.signature.verifies(a.key, a.evidence.Attest) {
		return hardware.Refuse("hardware/tpm/signature", "the quote's signature does not verify under the key %s", fingerprint(a.key))
	}
	return nil
}

func logPresent(a *appraisal) *hardware.Rejection {
	if a.opts.RequireEventLog && a.log == nil {
		return hardware.Refuse("hardware/tpm/event-log-missing", "an event log is demanded and none came with the quote")
	}
	return nil
}

// logReplays holds the log to the quoted values. PCR 10 belongs to the running
// kernel (IMA), and those from 16 on are for debugging and late launch: none of
// them is the firmware's.
func logReplays(a *appraisal) *hardware.Rejection {
	if a.log == nil {
		return nil
	}
	for _, i := range a.selected {
		if i == 10 || i > 15 {
			continue
		}
		if got, want := a.log.replay[i], a.pcrs[i]; got != want {
			return hardware.Refuse("hardware/tpm/event-log-replay", "the log replays PCR %d to %x and the quoted value is %x", i, got, want)
		}
	}
	return nil
}
