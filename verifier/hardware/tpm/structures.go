package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// The three structures of a quote are read here, field by field and to the last
// byte (TPM 2.0 Library, part 2; integers are big-endian, and a TPM2B is a
// 16-bit length and that many bytes). A test holds each reading to go-tpm's,
// whose own works by reflection and takes a few times as long as the signature
// that it serves.

// fields reads one field after another. After the first that is not there,
// every further one is zero, and done says so.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.rest, f.short = nil, true
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) u8() uint8 {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) u16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) alg() tpm2.TPMAlgID { return tpm2.TPMAlgID(f.u16()) }

// sized reads a TPM2B.
func (f *fields) sized() []byte { return f.take(int(f.u16())) }

// done says what is wrong with the whole, if anything.
func (f *fields) done() error {
	switch {
	case f.short:
		return fmt.Errorf("it ends before its last field")
	case len(f.rest) != 0:
		return fmt.Errorf("%d bytes follow its last field", len(f.rest))
	}
	return nil
}

// attest is a TPMS_ATTEST (§10.12.12) that holds a TPMS_QUOTE_INFO (§10.12.4).
type attest struct {
	magic        tpm2.TPMGenerated
	kind         tpm2.TPMST
	signer       []byte
	extraData    []byte
	clock        uint64
	resetCount   uint32
	restartCount uint32
	safe         bool
	firmware     uint64
	selections   []pcrSelection
	pcrDigest    []byte
}

// pcrSelection is a TPMS_PCR_SELECTION (§10.6.2).
type pcrSelection struct {
	bank   tpm2.TPMAlgID
	bitmap []byte
}

// maxBanks is HASH_COUNT, the most banks that a TPM has (§10.9.7).
const maxBanks = 16

// attestKind reads the type of a TPMS_ATTEST, on which the rest depends.
func attestKind(data []byte) (tpm2.TPMST, bool) {
	f := fields{rest: data}
	f.u32()
	kind := tpm2.TPMST(f.u16())
	return kind, !f.short
}

func parseAttest(data []byte) (attest, error) {
	f := fields{rest: data}
	a := attest{
		magic:        tpm2.TPMGenerated(f.u32()),
		kind:         tpm2.TPMST(f.u16()),
		signer:       f.sized(),
		extraData:    f.sized(),
		clock:        f.u64(),
		resetCount:   f.u32(),
		restartCount: f.u32(),
	}
	safe := f.u8() // TPMI_YES_NO
	a.safe, a.firmware = safe == 1, f.u64()
	banks := f.u32()
	if safe > 1 {
		return a, fmt.Errorf("the clock is said to be safe with %d, neither 0 nor 1", safe)
	}
	if banks > maxBanks {
		return a, fmt.Errorf("it selects from %d banks, more than %d", banks, maxBanks)
	}
	for range banks {
		a.selections = append(a.selections, pcrSelection{bank: f.alg(), bitmap: f.take(int(f.u8()))})
	}
	a.pcrDigest = f.sized()
	return a, f.done()
}

// Bits of TPMA_OBJECT (§8.3).
const (
	attrFixedTPM            = 1 << 1
	attrFixedParent         = 1 << 4
	attrSensitiveDataOrigin = 1 << 5
	attrRestricted          = 1 << 16
	attrDecrypt             = 1 << 17
	attrSign                = 1 << 18
)

// public is a TPMT_PUBLIC (§12.2.4) of an ECC or RSA key.
type public struct {
	kind         tpm2.TPMAlgID
	nameAlg      tpm2.TPMAlgID
	attributes   uint32
	scheme, hash tpm2.TPMAlgID

	curve tpm2.TPMECCCurve // ECC
	x, y  []byte

	keyBits  uint16 // RSA
	exponent uint32
	modulus  []byte
}

// errOtherKind is the error for keys that cannot sign a quote at all.
type errOtherKind struct{ kind tpm2.TPMAlgID }

func (e errOtherKind) Error() string {
	return fmt.Sprintf("the key has the algorithm %#04x, neither ECC nor RSA", uint16(e.kind))
}

func parsePublic(data []byte) (public, error) {
	f := fields{rest: data}
	p := public{kind: f.alg(), nameAlg: f.alg(), attributes: f.u32()}
	f.sized() // authPolicy
	if p.kind != tpm2.TPMAlgECC && p.kind != tpm2.TPMAlgRSA {
		if f.short {
			return p, f.done()
		}
		return p, errOtherKind{p.kind}
	}
	if symmetric := f.alg(); symmetric != tpm2.TPMAlgNull { // TPMT_SYM_DEF_OBJECT
		f.u16() // key bits
		f.u16() // mode
	}
	p.scheme = f.alg()
	switch p.scheme { // TPMU_ASYM_SCHEME
	case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES:
	case tpm2.TPMAlgECDAA:
		p.hash = f.alg()
		f.u16() // count
	default:
		p.hash = f.alg()
	}
	if p.kind == tpm2.TPMAlgRSA {
		p.keyBits, p.exponent, p.modulus = f.u16(), f.u32(), f.sized()
		return p, f.done()
	}
	p.curve = tpm2.TPMECCCurve(f.u16())
	if kdf := f.alg(); kdf != tpm2.TPMAlgNull {
		f.alg()
	}
	p.x, p.y = f.sized(), f.sized()
	return p, f.done()
}

// signature is a TPMT_SIGNATURE (§11.3.4). Of schemes other than ECDSA and
// RSASSA only the names are of interest.
type signature struct {
	scheme, hash tpm2.TPMAlgID
	r, s         []byte // ECDSA
	rsa          []byte // RSASSA
}

func parseSignature(data []byte) (signature, error) {
	f := fields{rest: data}
	s := signature{scheme: f.alg()}
	switch s.scheme {
	case tpm2.TPMAlgNull:
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS:
		s.hash, s.rsa = f.alg(), f.sized()
	case tpm2.TPMAlgECDSA, tpm2.TPMAlgECDAA, tpm2.TPMAlgSM2, tpm2.TPMAlgECSchnorr:
		s.hash, s.r, s.s = f.alg(), f.sized(), f.sized()
	default:
		return s, fmt.Errorf("its scheme %#04x is unknown", uint16(s.scheme))
	}
	return s, f.done()
}
