package simulated

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

// TPM is a TPM that does not exist: an attestation key in software, and the
// structures that a TPM would sign with it.
type TPM struct {
	// Key signs. It is an ECDSA or RSA key of any size.
	Key crypto.Signer
	// Public is the key's public area. Changing it makes a key that lies about
	// itself.
	Public tpm2.TPMTPublic
}

// NewTPM makes a TPM whose key is on the given curve (P-256 or P-384).
func NewTPM(curve elliptic.Curve) (*TPM, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a simulated attestation key: %w", err)
	}
	id := tpm2.TPMECCNistP256
	if curve == elliptic.P384() {
		id = tpm2.TPMECCNistP384
	}
	point, err := key.PublicKey.Bytes() // 04, x, y
	if err != nil {
		return nil, fmt.Errorf("encoding a simulated attestation key: %w", err)
	}
	half := 1 + (len(point)-1)/2
	return &TPM{Key: key, Public: area(tpm2.TPMAlgECC,
		tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: id,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:half]},
			Y: tpm2.TPM2BECCParameter{Buffer: point[half:]},
		}))}, nil
}

// NewRSATPM makes a TPM whose key is an RSA key of so many bits.
func NewRSATPM(bits int) (*TPM, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a simulated attestation key: %w", err)
	}
	return &TPM{Key: key, Public: area(tpm2.TPMAlgRSA,
		tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: tpm2.TPMKeyBits(bits),
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}))}, nil
}

func area(kind tpm2.TPMAlgID, parameters tpm2.TPMUPublicParms, unique tpm2.TPMUPublicID) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    kind,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: parameters,
		Unique:     unique,
	}
}

// Attest makes the TPMS_ATTEST of a quote over the PCRs in values.
func Attest(userData []byte, values map[int][32]byte) tpm2.TPMSAttest {
	bitmap := make([]byte, 3)
	h := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(values)) {
		bitmap[i/8] |= 1 << (i % 8)
		v := values[i]
		h.Write(v[:])
	}
	return tpm2.TPMSAttest{
		Magic:           tpm2.TPMGeneratedValue,
		Type:            tpm2.TPMSTAttestQuote,
		QualifiedSigner: tpm2.TPM2BName{Buffer: append([]byte{0, 0x0b}, make([]byte, 32)...)},
		ExtraData:       tpm2.TPM2BData{Buffer: userData},
		ClockInfo:       tpm2.TPMSClockInfo{Clock: 1000, ResetCount: 1, Safe: true},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
		}),
	}
}

// Quote signs a quote over values, with user data of 32 bytes.
func (t *TPM) Quote(userData []byte, values map[int][32]byte) (tpm.Evidence, error) {
	return t.Sign(tpm2.Marshal(Attest(userData, values)), values)
}

// Sign signs attest, bytes of any content: no real TPM would, with a restricted
// key. Tests are the forger who would like to.
func (t *TPM) Sign(attest []byte, values map[int][32]byte) (tpm.Evidence, error) {
	digest := sha256.Sum256(attest)
	raw, err := t.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return tpm.Evidence{}, fmt.Errorf("signing a simulated quote: %w", err)
	}
	sig := tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
		&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: raw}})}
	if key, ok := t.Key.Public().(*ecdsa.PublicKey); ok {
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(raw, &rs); err != nil {
			return tpm.Evidence{}, fmt.Errorf("reading a simulated signature: %w", err)
		}
		size := (key.Params().BitSize + 7) / 8
		sig = tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
			&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
				SignatureR: tpm2.TPM2BECCParameter{Buffer: rs.R.FillBytes(make([]byte, size))},
				SignatureS: tpm2.TPM2BECCParameter{Buffer: rs.S.FillBytes(make([]byte, size))}})}
	}
	return tpm.Evidence{Attest: attest, Signature: tpm2.Marshal(sig), AKPublic: tpm2.Marshal(t.Public), PCRs: maps.Clone(values)}, nil
}

// Event is one entry of a simulated event log.
type Event struct {
	PCR    uint32
	Type   uint32
	Digest [32]byte // SHA-256
	Data   []byte
}

// EventLog writes events as firmware does (TCG PC Client Platform Firmware
// Profile, §10, crypto agile), with a SHA-256 bank alone.
func EventLog(events []Event) []byte {
	le := binary.LittleEndian
	spec := []byte("Spec ID Event03\x00")
	spec = le.AppendUint32(spec, 0)           // platform class: client
	spec = append(spec, 0, 2, 0, 2)           // version 2.0, errata 0, UINTN of 8 bytes
	spec = le.AppendUint32(spec, 1)           // one bank
	spec = le.AppendUint16(spec, 0x000b)      // SHA-256
	spec = le.AppendUint16(spec, sha256.Size) //
	spec = append(spec, 0)                    // no vendor information
	log := le.AppendUint32(nil, 0)            // PCR 0
	log = le.AppendUint32(log, 3)             // EV_NO_ACTION
	log = append(log, make([]byte, 20)...)    // SHA-1 digest
	log = le.AppendUint32(log, uint32(len(spec)))
	log = append(log, spec...)
	for _, e := range events {
		log = le.AppendUint32(log, e.PCR)
		log = le.AppendUint32(log, e.Type)
		log = le.AppendUint32(log, 1)
		log = le.AppendUint16(log, 0x000b)
		log = append(log, e.Digest[:]...)
		log = le.AppendUint32(log, uint32(len(e.Data)))
		log = append(log, e.Data...)
	}
	return log
}

// Replay extends zeros with the events' digests: the values of the PCRs that
// they name.
func Replay(events []Event) map[int][32]byte {
	values := map[int][32]byte{}
	for _, e := range events {
		if e.Type == 3 { // EV_NO_ACTION
			continue
		}
		v := values[int(e.PCR)]
		values[int(e.PCR)] = sha256.Sum256(append(v[:], e.Digest[:]...))
	}
	return values
}
