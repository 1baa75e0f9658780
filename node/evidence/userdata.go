package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
)

// Challenge is what makes evidence fresh: 0x01 and a client's nonce, or 0x02
// and the SHA-256 of a witnessed checkpoint.
type Challenge [33]byte

const (
	byNonce      = 0x01
	byCheckpoint = 0x02
)

// NonceChallenge returns the challenge of a client's nonce.
func NonceChallenge(nonce [32]byte) Challenge {
	return Challenge(append([]byte{byNonce}, nonce[:]...))
}

// CheckpointChallenge returns the challenge of a signed checkpoint: its exact
// text, cosignature lines included, as it stands in the document.
func CheckpointChallenge(note []byte) Challenge {
	sum := sha256.Sum256(note)
	return Challenge(append([]byte{byCheckpoint}, sum[:]...))
}

// NonceParameter is the query parameter that carries a nonce.
const NonceParameter = "nonce"

// FormatNonce writes a nonce for a URL: base64url without padding.
func FormatNonce(nonce [32]byte) string { return base64.RawURLEncoding.EncodeToString(nonce[:]) }

// ParseNonce reads a nonce as [FormatNonce] writes it. The error is an *[Error]
// of code [CodeBadNonce].
func ParseNonce(s string) (nonce [32]byte, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(nonce) || base64.RawURLEncoding.EncodeToString(b) != s {
		return nonce, NewError(CodeBadNonce, "the nonce is not 32 bytes in base64url without padding (43 characters)")
	}
	return [32]byte(b), nil
}

// UserDataInput is what evidence is bound to. TLSKey is the DER
// SubjectPublicKeyInfo of the key that ends the TLS connection. HPKEKey and
// DeviceEvidence may be absent. LeafHash is the Merkle tree leaf hash of the
// release's leaf (RFC 6962 §2.1).
type UserDataInput struct {
	Platform       string
	Challenge      Challenge
	TLSKey         []byte
	HPKEKey        []byte
	DeviceEvidence []byte
	LeafHash       [32]byte
}

const (
	userDataDomain = "https://vitrine.dev/user-data"
	gpuNonceDomain = "https://vitrine.dev/gpu-nonce"
	hashVersion    = "v1"
)

// UserData returns H, the 64 bytes that go into REPORT_DATA (SEV-SNP),
// REPORTDATA (TDX) or user_data (Nitro). A TPM quotes [QuoteData] of it.
func UserData(in UserDataInput) [64]byte {
	var b []byte
	b = appendField(b, []byte(userDataDomain))
	b = appendField(b, []byte(hashVersion))
	b = appendField(b, []byte(in.Platform))
	b = appendField(b, in.Challenge[:])
	b = appendField(b, digest(in.TLSKey))
	b = appendField(b, digest(in.HPKEKey))
	b = appendField(b, digest(in.DeviceEvidence))
	b = appendField(b, in.LeafHash[:])
	return sha512.Sum512(b)
}

// QuoteData returns what a TPM quote carries in extraData (TPM 2.0 Part 2,
// TPMS_ATTEST), which has no room for 64 bytes.
func QuoteData(h [64]byte) [32]byte { return sha256.Sum256(h[:]) }

// GPUNonce returns the nonce that device evidence is asked with. It cannot be
// H, since H covers the device evidence.
func GPUNonce(challenge Challenge, spki []byte) [32]byte {
	var b []byte
	b = appendField(b, []byte(gpuNonceDomain))
	b = appendField(b, []byte(hashVersion))
	b = appendField(b, challenge[:])
	b = appendField(b, digest(spki))
	return sha256.Sum256(b)
}

// appendField writes a field with its length before it, so that no two lists of
// fields have the same bytes.
func appendField(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// digest returns the SHA-256 of a part, nothing for one that is absent.
func digest(part []byte) []byte {
	if len(part) == 0 {
		return nil
	}
	sum := sha256.Sum256(part)
	return sum[:]
}
