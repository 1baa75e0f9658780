package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func (a *appraisal) readKey() *hardware.Rejection {
	data := a.evidence.AKPublic
	if len(data) == 0 {
		return hardware.Refuse("hardware/tpm/ak-missing", "the attestation key's public area did not come with the quote")
	}
	var err error
	if a.ak, err = parsePublic(data); err != nil {
		if errors.As(err, &errOtherKind{}) {
			return hardware.Refuse("hardware/tpm/ak-type", "%v", err)
		}
		return hardware.Refuse("hardware/tpm/ak-malformed", "reading a TPMT_PUBLIC of %d bytes: %v", len(data), err)
	}
	var r *hardware.Rejection
	a.key, r = a.ak.key()
	return r
}

// key turns a public area into a key of the standard library. It makes sure
// that a point is on its curve.
func (p public) key() (crypto.PublicKey, *hardware.Rejection) {
	if p.kind == tpm2.TPMAlgRSA {
		// An exponent of 0 stands for 65537 (part 2, §12.2.3.5).
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(p.modulus), E: int(p.exponent)}
		if key.E == 0 {
			key.E = 65537
		}
		if int(p.keyBits) != key.N.BitLen() {
			return nil, hardware.Refuse("hardware/tpm/ak-malformed", "the attestation key says %d bits and its modulus has %d", p.keyBits, key.N.BitLen())
		}
		return key, nil
	}
	var curve elliptic.Curve
	switch p.curve {
	case tpm2.TPMECCNistP256:
		curve = elliptic.P256()
	case tpm2.TPMECCNistP384:
		curve = elliptic.P384()
	default:
		return nil, hardware.Refuse("hardware/tpm/ak-type", "the attestation key is on the curve %#04x, not on P-256", uint16(p.curve))
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(p.x) > size || len(p.y) > size {
		return nil, hardware.Refuse("hardware/tpm/ak-malformed", "the attestation key's coordinates have %d and %d bytes, more than %d", len(p.x), len(p.y), size)
	}
	// SEC 1, §2.3.3, uncompressed; some TPMs drop leading zeros.
	encoded := make([]byte, 1+2*size)
	encoded[0] = 4
	copy(encoded[1+size-len(p.x):], p.x)
	copy(encoded[1+2*size-len(p.y):], p.y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, encoded)
	if err != nil {
		return nil, hardware.Refuse("hardware/tpm/ak-malformed", "reading the attestation key: %v", err)
	}
	return key, nil
}

func (a *appraisal) readSignature() *hardware.Rejection {
	data := a.evidence.Signature
	var err error
	if a.signature, err = parseSignature(data); err != nil {
		return hardware.Refuse("hardware/tpm/signature-malformed", "reading a TPMT_SIGNATURE of %d bytes: %v", len(data), err)
	}
	return nil
}

// verifies checks the signature over data with SHA-256.
func (s signature) verifies(key crypto.PublicKey, data []byte) bool {
	digest := sha256.Sum256(data)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.Verify(k, digest[:], new(big.Int).SetBytes(s.r), new(big.Int).SetBytes(s.s))
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], s.rsa) == nil
	}
	return false
}
