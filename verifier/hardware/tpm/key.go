package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func (a *appraisal) readKey() *hardware.Rejection {
	data := a.evidence.AKPublic
	if len(data) == 0 {
		return hardware.Refuse("hardware/tpm/ak-missing", "the attestation key's public area did not come with the quote")
	}
	var problem string
	if a.ak, problem = readExactly[tpm2.TPMTPublic](data); problem != "" {
		return hardware.Refuse("hardware/tpm/ak-malformed", "reading a TPMT_PUBLIC of %d bytes: %s", len(data), problem)
	}
	var r *hardware.Rejection
	a.key, r = publicKey(a.ak)
	return r
}

// publicKey turns a public area into a key of the standard library. It makes
// sure that a point is on its curve.
func publicKey(area *tpm2.TPMTPublic) (crypto.PublicKey, *hardware.Rejection) {
	malformed := func(err error) (crypto.PublicKey, *hardware.Rejection) {
		return nil, hardware.Refuse("hardware/tpm/ak-malformed", "reading the attestation key: %v", err)
	}
	switch area.Type {
	case tpm2.TPMAlgECC:
		params, err := area.Parameters.ECCDetail()
		if err != nil {
			return malformed(err)
		}
		point, err := area.Unique.ECC()
		if err != nil {
			return malformed(err)
		}
		var curve elliptic.Curve
		switch params.CurveID {
		case tpm2.TPMECCNistP256:
			curve = elliptic.P256()
		case tpm2.TPMECCNistP384:
			curve = elliptic.P384()
		default:
			return nil, hardware.Refuse("hardware/tpm/ak-type", "the attestation key is on the curve %#04x, not on P-256", uint16(params.CurveID))
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := point.X.Buffer, point.Y.Buffer
		if len(x) > size || len(y) > size {
			return nil, hardware.Refuse("hardware/tpm/ak-malformed", "the attestation key's coordinates have %d and %d bytes, more than %d", len(x), len(y), size)
		}
		// SEC 1, §2.3.3, uncompressed; some TPMs drop leading zeros.
		encoded := make([]byte, 1+2*size)
		encoded[0] = 4
		copy(encoded[1+size-len(x):], x)
		copy(encoded[1+2*size-len(y):], y)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, encoded)
		if err != nil {
			return malformed(err)
		}
		return key, nil
	case tpm2.TPMAlgRSA:
		params, err := area.Parameters.RSADetail()
		if err != nil {
			return malformed(err)
		}
		modulus, err := area.Unique.RSA()
		if err != nil {
			return malformed(err)
		}
		key, err := tpm2.RSAPub(params, modulus)
		if err != nil {
			return malformed(err)
		}
		return key, nil
	}
	return nil, hardware.Refuse("hardware/tpm/ak-type", "the attestation key has the algorithm %#04x, neither ECC nor RSA", uint16(area.Type))
}

// signature is a TPMT_SIGNATURE of one of the two schemes that are accepted,
// or of one whose numbers are absent.
type signature struct {
	scheme, hash tpm2.TPMAlgID
	r, s         *big.Int // ECDSA
	rsa          []byte   // RSASSA
}

func (a *appraisal) readSignature() *hardware.Rejection {
	data := a.evidence.Signature
	v, problem := readExactly[tpm2.TPMTSignature](data)
	if problem != "" {
		return hardware.Refuse("hardware/tpm/signature-malformed", "reading a TPMT_SIGNATURE of %d bytes: %s", len(data), problem)
	}
	a.signature.scheme = v.SigAlg
	if ec, err := v.Signature.ECDSA(); err == nil {
		a.signature.hash = ec.Hash
		a.signature.r = new(big.Int).SetBytes(ec.SignatureR.Buffer)
		a.signature.s = new(big.Int).SetBytes(ec.SignatureS.Buffer)
	}
	if r, err := v.Signature.RSASSA(); err == nil {
		a.signature.hash, a.signature.rsa = r.Hash, r.Sig.Buffer
	}
	return nil
}

// verifies checks the signature over data with SHA-256.
func (s signature) verifies(key crypto.PublicKey, data []byte) bool {
	digest := sha256.Sum256(data)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return s.r != nil && s.s != nil && ecdsa.Verify(k, digest[:], s.r, s.s)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], s.rsa) == nil
	}
	return false
}
