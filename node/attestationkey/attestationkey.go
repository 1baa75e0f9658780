// Package attestationkey derives the key that a node's TPM quotes with.
//
// It is a primary key: a TPM computes it from its own endorsement seed and from
// a template, and from nothing else, so the same TPM makes the same key at each
// boot and nothing needs to be stored. Whoever holds the TPM's state (a host
// with a virtual TPM) can read the public part before the guest has booted, and
// put it into a policy.
//
// The key says which TPM quoted. Whether that TPM deserves trust is the
// policy's decision.
package attestationkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// coordinateBytes is the length of a coordinate of a point on P-256.
const coordinateBytes = 32

// Template returns the public area that the key is made from (TPM 2.0 Library,
// Part 2, §12.2.4): P-256, restricted signing with ECDSA and SHA-256, fixed to
// its TPM, empty authorisation. Restricted means that the TPM signs nothing
// with it but structures that it made itself, which is what makes a quote a
// quote (Part 1, §23.3). The unique field is zeros, as in the TCG's own
// templates; any other value would be another key.
func Template() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:            true,
			FixedParent:         true,
			SensitiveDataOrigin: true,
			UserWithAuth:        true,
			NoDA:                true,
			Restricted:          true,
			SignEncrypt:         true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA,
					&tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: make([]byte, coordinateBytes)},
			Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, coordinateBytes)},
		}),
	}
}

// Key is the attestation key, loaded in a TPM until Close.
type Key struct {
	// Handle and Name are what commands that use the key need.
	Handle tpm2.TPMHandle
	Name   tpm2.TPM2BName
	// Public is the marshalled TPMT_PUBLIC, as it stands in the endorsement
	// ak-public.
	Public []byte

	tpm transport.TPM
}

// Create makes the key in tpm's endorsement hierarchy, whose authorisation must
// be empty.
func Create(tpm transport.TPM) (*Key, error) {
	created, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic:      tpm2.New2B(Template()),
	}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("making the attestation key in the TPM's endorsement hierarchy: %w", err)
	}
	key := &Key{Handle: created.ObjectHandle, Name: created.Name, Public: created.OutPublic.Bytes(), tpm: tpm}
	if _, err := PublicKey(key.Public); err != nil {
		_ = key.Close()
		return nil, fmt.Errorf("the TPM made another attestation key than it was asked for: %w", err)
	}
	return key, nil
}

// Close unloads the key. The TPM can make it again.
func (k *Key) Close() error {
	_, err := tpm2.FlushContext{FlushHandle: k.Handle}.Execute(k.tpm)
	if err != nil {
		return fmt.Errorf("unloading the attestation key: %w", err)
	}
	return nil
}

// PublicKey reads a marshalled TPMT_PUBLIC. It refuses one that differs from
// [Template] in anything but the point: a key that is not restricted, say, would
// sign a quote that somebody made up.
func PublicKey(public []byte) (*ecdsa.PublicKey, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, fmt.Errorf("reading a TPMT_PUBLIC of %d bytes: %w", len(public), err)
	}
	if area.Type != tpm2.TPMAlgECC {
		return nil, fmt.Errorf("the key has the algorithm %#04x, not ECC (%#04x)", uint16(area.Type), uint16(tpm2.TPMAlgECC))
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, fmt.Errorf("reading the point of a TPMT_PUBLIC: %w", err)
	}
	want := Template()
	want.Unique = area.Unique
	if !bytes.Equal(public, tpm2.Marshal(want)) {
		return nil, fmt.Errorf("the key's public area is not that of the template (P-256, restricted, signing, fixed to its TPM)")
	}
	if len(point.X.Buffer) > coordinateBytes || len(point.Y.Buffer) > coordinateBytes {
		return nil, fmt.Errorf("the point's coordinates have %d and %d bytes, more than %d",
			len(point.X.Buffer), len(point.Y.Buffer), coordinateBytes)
	}
	// SEC 1, §2.3.3, uncompressed; some TPMs drop a coordinate's leading zeros.
	encoded := make([]byte, 1+2*coordinateBytes)
	encoded[0] = 4
	copy(encoded[1+coordinateBytes-len(point.X.Buffer):], point.X.Buffer)
	copy(encoded[1+2*coordinateBytes-len(point.Y.Buffer):], point.Y.Buffer)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), encoded)
	if err != nil {
		return nil, fmt.Errorf("the key's point is not on P-256: %w", err)
	}
	return key, nil
}

// PEM writes a marshalled TPMT_PUBLIC as the SubjectPublicKeyInfo in PEM that a
// policy's attestationKeys holds.
func PEM(public []byte) ([]byte, error) {
	key, err := PublicKey(public)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the attestation key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
