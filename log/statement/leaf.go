package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// MediaType is the media type of a leaf.
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// maxSignatureBytes bounds a signature; Ed25519's has 64 bytes and P-256's in
// DER at most 72.
const maxSignatureBytes = 128

// ErrUnknownKey says that none of the given keys is the one that a leaf hints at.
var ErrUnknownKey = errors.New("signed by a key that is not among the known ones")

// ErrBadSignature says that a leaf hints at a key that did not sign it.
var ErrBadSignature = errors.New("the signature is not that key's")

// Signed is a signed statement, parsed from its leaf.
type Signed struct {
	Leaf      []byte   // the bundle's exact bytes
	Payload   []byte   // what was signed
	ID        ID       // SHA-256 of Payload
	Hint      [32]byte // SHA-256 of the signer's SubjectPublicKeyInfo, unproven until verified
	Statement *Statement

	signature []byte
}

// Parse reads a leaf. It accepts a Sigstore bundle v0.3 with a DSSE envelope,
// one signature and a public-key hint, only in the bytes that writing it
// canonically gives, so that nobody can say the same thing in a second leaf.
// It does not verify the signature: see [Signed.VerifyAny].
func Parse(leaf []byte) (*Signed, error) {
	s, err := parseLeaf(leaf)
	if err != nil {
		return nil, fmt.Errorf("reading a leaf: %w", err)
	}
	return s, nil
}

func parseLeaf(leaf []byte) (*Signed, error) {
	if len(leaf) > MaxLeafBytes {
		return nil, ijson.Errorf("", "the leaf has %d bytes; the limit is %d", len(leaf), MaxLeafBytes)
	}
	var b bundle.Bundle
	readErr := protojson.Unmarshal(leaf, &b)
	if readErr == nil {
		written, err := marshalBundle(&b)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(written, leaf) {
			return fromBundle(&b, leaf)
		}
	}
	// What is wrong is looked for only now. JSON first, so that a member that
	// stands twice or bad UTF-8 is named as such.
	if err := ijson.CheckCanonical(leaf); err != nil {
		return nil, err
	}
	if readErr != nil {
		// The module writes some of its blanks as no-break spaces, in every build
		// others, so that nobody compares its messages.
		what := strings.ReplaceAll(readErr.Error(), "\u00a0", " ")
		return nil, ijson.Errorf("", "not a Sigstore bundle: %s", strings.TrimPrefix(what, "proto: "))
	}
	return nil, ijson.Errorf("", "not the canonical form of the bundle, but another way to write it that protojson reads too: a null, an empty list, base64url or protobuf's own name of a member; write it with protojson, then by RFC 8785")
}

// marshalBundle returns JCS(protojson(b)).
func marshalBundle(b *bundle.Bundle) ([]byte, error) {
	text, err := protojson.Marshal(b)
	if err != nil {
		return nil, ijson.Errorf("", "writing a bundle: %v", err)
	}
	return ijson.Canonical(text)
}

// fromBundle checks that the bundle is one of the kind that a log takes.
func fromBundle(b *bundle.Bundle, leaf []byte) (*Signed, error) {
	if b.GetMediaType() != MediaType {
		return nil, ijson.Errorf("/mediaType", "%q is not %s", ijson.Clip(b.GetMediaType()), MediaType)
	}
	material := b.GetVerificationMaterial()
	const inMaterial = "/verificationMaterial"
	if material.GetPublicKey() == nil {
		return nil, ijson.Errorf(inMaterial, "member \"publicKey\" is missing; a leaf is signed by a plain key")
	}
	if len(material.GetTlogEntries()) > 0 {
		return nil, ijson.Errorf(inMaterial+"/tlogEntries", "not taken; leave it out")
	}
	if material.GetTimestampVerificationData() != nil {
		return nil, ijson.Errorf(inMaterial+"/timestampVerificationData", "not taken; leave it out")
	}
	hintText := material.GetPublicKey().GetHint()
	hint, err := base64.StdEncoding.Strict().DecodeString(hintText)
	if err != nil || len(hint) != sha256.Size || base64.StdEncoding.EncodeToString(hint) != hintText {
		return nil, ijson.Errorf(inMaterial+"/publicKey/hint", "not the base64 SHA-256 of the signer's SubjectPublicKeyInfo")
	}
	envelope := b.GetDsseEnvelope()
	const inEnvelope = "/dsseEnvelope"
	if envelope == nil {
		return nil, ijson.Errorf("", "member \"dsseEnvelope\" is missing; a leaf carries a DSSE envelope")
	}
	if envelope.GetPayloadType() != PayloadType {
		return nil, ijson.Errorf(inEnvelope+"/payloadType", "%q is not %s", ijson.Clip(envelope.GetPayloadType()), PayloadType)
	}
	if n := len(envelope.GetSignatures()); n != 1 {
		return nil, ijson.Errorf(inEnvelope+"/signatures", "%d signatures; a leaf has exactly one", n)
	}
	signature := envelope.GetSignatures()[0]
	const inSignature = inEnvelope + "/signatures/0"
	if signature.GetKeyid() != "" {
		return nil, ijson.Errorf(inSignature+"/keyid", "not taken; the hint names the key")
	}
	if n := len(signature.GetSig()); n == 0 || n > maxSignatureBytes {
		return nil, ijson.Errorf(inSignature+"/sig", "%d bytes; a signature has 1 to %d", n, maxSignatureBytes)
	}
	payload := envelope.GetPayload()
	parsed, err := parsePayload(payload)
	if err != nil {
		return nil, fmt.Errorf("its payload: %w", err)
	}
	return &Signed{
		Leaf:      bytes.Clone(leaf),
		Payload:   payload,
		ID:        IDOf(payload),
		Hint:      [32]byte(hint),
		Statement: parsed,
		signature: signature.GetSig(),
	}, nil
}

// Release returns the release predicate, if it is one.
func (s *Signed) Release() (*Release, bool) { return s.Statement.Release() }

// Rebuild returns the rebuild predicate, if it is one.
func (s *Signed) Rebuild() (*Rebuild, bool) { return s.Statement.Rebuild() }

// Withdrawal returns the withdrawal predicate, if it is one.
func (s *Signed) Withdrawal() (*Withdrawal, bool) { return s.Statement.Withdrawal() }

// Channel returns the channel predicate, if it is one.
func (s *Signed) Channel() (*Channel, bool) { return s.Statement.Channel() }

// LeafHash returns the Merkle tree leaf hash, SHA-256(0x00 || leaf) (RFC 6962
// §2.1).
func (s *Signed) LeafHash() [32]byte { return LeafHash(s.Leaf) }

// LeafHash returns the Merkle tree leaf hash of a leaf (RFC 6962 §2.1).
func LeafHash(leaf []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	return [32]byte(h.Sum(nil))
}

// VerifyAny checks the signature with the one of keys that the leaf hints at,
// and returns that key. The error is [ErrUnknownKey] if there is none, and
// [ErrBadSignature] if the signature is not that key's.
func (s *Signed) VerifyAny(keys []*PublicKey) (*PublicKey, error) {
	for _, key := range keys {
		if key.Hint() != s.Hint {
			continue
		}
		if !key.verify(preAuthEncoding(s.Payload), s.signature) {
			return nil, fmt.Errorf("verifying statement %s, which hints at key %x: %w", s.ID, s.Hint, ErrBadSignature)
		}
		return key, nil
	}
	return nil, fmt.Errorf("verifying statement %s, which hints at key %x: %w", s.ID, s.Hint, ErrUnknownKey)
}

// Sign checks a payload, signs it and returns the leaf. An Ed25519 signature is
// the same each time; an ECDSA one is not, so keep the leaf and send it again
// rather than sign again.
func Sign(payload []byte, signer crypto.Signer) ([]byte, error) {
	if _, err := ParsePayload(payload); err != nil {
		return nil, err
	}
	key, err := NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	message, hash := preAuthEncoding(payload), crypto.Hash(0)
	if _, ok := key.key.(*ecdsa.PublicKey); ok {
		digest := sha256.Sum256(message)
		message, hash = digest[:], crypto.SHA256
	}
	sig, err := signer.Sign(rand.Reader, message, hash)
	if err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	hint := key.Hint()
	leaf, err := marshalBundle(&bundle.Bundle{
		MediaType: MediaType,
		VerificationMaterial: &bundle.VerificationMaterial{
			Content: &bundle.VerificationMaterial_PublicKey{
				PublicKey: &common.PublicKeyIdentifier{Hint: base64.StdEncoding.EncodeToString(hint[:])},
			},
		},
		Content: &bundle.Bundle_DsseEnvelope{
			DsseEnvelope: &dsse.Envelope{
				Payload:     payload,
				PayloadType: PayloadType,
				Signatures:  []*dsse.Signature{{Sig: sig}},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	// A signer that is a device may have signed with another key than it names.
	signed, err := Parse(leaf)
	if err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	if _, err := signed.VerifyAny([]*PublicKey{key}); err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	return leaf, nil
}

// Sign signs what the statement says and gives it as [Parse] does.
func (s *Statement) Sign(signer crypto.Signer) (*Signed, error) {
	payload, err := s.Payload()
	if err != nil {
		return nil, err
	}
	leaf, err := Sign(payload, signer)
	if err != nil {
		return nil, err
	}
	return Parse(leaf)
}

// FromBundle brings a Sigstore bundle that another tool signed into the form of
// a leaf: canonical, and without the keyid that some put beside the signature.
// It changes nothing that is signed. A payload that is not canonical cannot be
// mended this way; sign what [Statement.Payload] returns.
func FromBundle(text []byte) ([]byte, error) {
	// Indentation and escapes take room that the leaf does not have to have.
	if len(text) > 4*MaxLeafBytes {
		return nil, fmt.Errorf("reading a bundle: %w", ijson.Errorf("", "%d bytes; the limit is %d", len(text), 4*MaxLeafBytes))
	}
	if _, err := ijson.Canonical(text); err != nil {
		return nil, fmt.Errorf("reading a bundle: %w", err)
	}
	var b bundle.Bundle
	if err := protojson.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("reading a bundle: %w", ijson.Errorf("", "not a Sigstore bundle: %v", err))
	}
	for _, signature := range b.GetDsseEnvelope().GetSignatures() {
		signature.Keyid = ""
	}
	leaf, err := marshalBundle(&b)
	if err != nil {
		return nil, fmt.Errorf("reading a bundle: %w", err)
	}
	if _, err := Parse(leaf); err != nil {
		return nil, err
	}
	return leaf, nil
}

// preAuthEncoding is DSSE's PAE of a payload, the bytes that are signed.
func preAuthEncoding(payload []byte) []byte {
	pae := make([]byte, 0, len(payload)+64)
	pae = append(pae, "DSSEv1 "...)
	pae = strconv.AppendInt(pae, int64(len(PayloadType)), 10)
	pae = append(pae, ' ')
	pae = append(pae, PayloadType...)
	pae = append(pae, ' ')
	pae = strconv.AppendInt(pae, int64(len(payload)), 10)
	pae = append(pae, ' ')
	return append(pae, payload...)
}
