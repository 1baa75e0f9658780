package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// maxPEMBytes bounds a key file; an Ed25519 or P-256 key takes under 300 bytes.
const maxPEMBytes = 4 << 10

// PublicKey is a key that signs statements: Ed25519, or ECDSA on P-256.
type PublicKey struct {
	key  crypto.PublicKey // ed25519.PublicKey or *ecdsa.PublicKey
	spki []byte
}

// NewPublicKey returns the key of a signer, an ed25519.PublicKey or an
// *ecdsa.PublicKey on P-256.
func NewPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 public key of another length than 32 bytes")
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an ECDSA key on %s; use P-256, or Ed25519", k.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("a key of type %T; use Ed25519, or ECDSA on P-256", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	return &PublicKey{key: key, spki: spki}, nil
}

// ParsePublicKeyPEM reads a SubjectPublicKeyInfo in one PEM block "PUBLIC KEY".
func ParsePublicKeyPEM(text []byte) (*PublicKey, error) {
	der, err := decodePEM(text, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		// What encoding/asn1 says is about Go's structures, not about the file.
		return nil, errors.New("reading a public key: what the PEM block holds is no key; it may be damaged")
	}
	k, err := NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	// The hint is a digest of the encoding: one key, one encoding.
	if !bytes.Equal(der, k.spki) {
		return nil, errors.New("reading a public key: not the DER encoding of the key; write it again with openssl pkey -pubin")
	}
	return k, nil
}

func decodePEM(text []byte, kind string) ([]byte, error) {
	if len(text) > maxPEMBytes {
		return nil, fmt.Errorf("%d bytes; the limit is %d", len(text), maxPEMBytes)
	}
	text = bytes.TrimSpace(text)
	begin := []byte("-----BEGIN " + kind + "-----")
	if !bytes.HasPrefix(text, begin) {
		return nil, fmt.Errorf("it does not begin with %q", begin)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("not a PEM block %q", kind)
	}
	if len(block.Headers) > 0 {
		return nil, errors.New("the PEM block has headers; remove them")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("something follows the first PEM block; keep one key")
	}
	return block.Bytes, nil
}

// PEM returns the key as [ParsePublicKeyPEM] reads it.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki})
}

// Hint returns the SHA-256 of the key's DER SubjectPublicKeyInfo, by which a
// leaf says which key to try.
func (k *PublicKey) Hint() [32]byte { return sha256.Sum256(k.spki) }

// SPKI returns the key's DER SubjectPublicKeyInfo.
func (k *PublicKey) SPKI() []byte { return bytes.Clone(k.spki) }

// Equal reports whether both are the same key.
func (k *PublicKey) Equal(other *PublicKey) bool { return bytes.Equal(k.spki, other.spki) }

// verify reports whether sig is the key's signature over message.
func (k *PublicKey) verify(message, sig []byte) bool {
	switch key := k.key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(key, digest[:], sig)
	}
	return false
}

// NewPrivateKey makes an Ed25519 key from 32 bytes of random.
func NewPrivateKey(random io.Reader) (crypto.Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("making a private key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParsePrivateKeyPEM reads a PKCS #8 key in one PEM block "PRIVATE KEY".
func ParsePrivateKeyPEM(text []byte) (crypto.Signer, error) {
	der, err := decodePEM(text, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("reading a private key: what the PEM block holds is no key; it may be damaged")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading a private key: a key of type %T cannot sign; use Ed25519, or ECDSA on P-256", key)
	}
	if _, err := NewPublicKey(signer.Public()); err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	return signer, nil
}

// MarshalPrivateKeyPEM writes a key as [ParsePrivateKeyPEM] reads it.
func MarshalPrivateKeyPEM(signer crypto.Signer) ([]byte, error) {
	if _, err := NewPublicKey(signer.Public()); err != nil {
		return nil, fmt.Errorf("writing a private key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, fmt.Errorf("writing a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
