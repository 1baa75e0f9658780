package statement_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/vitrine-dev/vitrine/log/statement"
)

func channel() *statement.Statement {
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: "1.2.0", Digest: statement.DigestOf([]byte("a release"))}},
		Predicate: &statement.Channel{
			Product: "hello-inference", Channel: "stable", Sequence: 1,
			IssuedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			NotAfter: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
		},
	}
}

// sigstoreVerify verifies a bundle with sigstore-go, offline, under one key
// whose hint it must name.
func sigstoreVerify(leaf []byte, key crypto.PublicKey, artefact statement.Digest) error {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(leaf); err != nil {
		return err
	}
	public, err := statement.NewPublicKey(key)
	if err != nil {
		return err
	}
	hint := public.Hint()
	trusted := root.NewTrustedPublicKeyMaterial(func(id string) (root.TimeConstrainedVerifier, error) {
		if id != base64.StdEncoding.EncodeToString(hint[:]) {
			return nil, fmt.Errorf("unknown key %s", id)
		}
		v, err := signature.LoadVerifier(key, crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	verifier, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return err
	}
	digest, err := hex.DecodeString(artefact.SHA256)
	if err != nil {
		return err
	}
	_, err = verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), verify.WithKey()))
	return err
}

func TestSigstoreAcceptsLeaves(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"ed25519": ed, "p256": ec} {
		t.Run(name, func(t *testing.T) {
			s := channel()
			payload, err := s.Payload()
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := statement.Sign(payload, signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := sigstoreVerify(leaf, signer.Public(), s.Subjects[0].Digest); err != nil {
				t.Errorf("sigstore-go refuses the leaf: %v", err)
			}
			if err := sigstoreVerify(leaf, signer.Public(), statement.DigestOf([]byte("another release"))); err == nil {
				t.Error("sigstore-go accepts the leaf for another artefact: this test proves nothing")
			}
			at := bytes.Index(leaf, []byte(`"sig":"`)) + len(`"sig":"`) + 40
			changed := bytes.Clone(leaf)
			changed[at] ^= 1
			if err := sigstoreVerify(changed, signer.Public(), s.Subjects[0].Digest); err == nil {
				t.Error("sigstore-go accepts a changed signature: this test proves nothing")
			}
		})
	}
}

func TestLeafFromSigstoreSigner(t *testing.T) {
	payload, err := channel().Payload()
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []protocommon.PublicKeyDetails{
		protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		protocommon.PublicKeyDetails_PKIX_ED25519,
	} {
		t.Run(algorithm.String(), func(t *testing.T) {
			pair, err := sign.NewEphemeralKeypair(&sign.EphemeralKeypairOptions{Algorithm: algorithm})
			if err != nil {
				t.Fatal(err)
			}
			signed, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: statement.PayloadType}, pair, sign.BundleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			// Some signers add one; sigstore-go itself then refuses the bundle.
			signed.GetDsseEnvelope().GetSignatures()[0].Keyid = "my key"
			text, err := protojson.MarshalOptions{Multiline: true}.Marshal(signed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := statement.Parse(text); err == nil {
				t.Error("Parse takes a bundle that is not in canonical form")
			}
			leaf, err := statement.FromBundle(text)
			if err != nil {
				t.Fatal(err)
			}
			s, err := statement.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			key, err := statement.NewPublicKey(pair.GetPublicKey())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.VerifyAny([]*statement.PublicKey{key}); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(s.Payload, payload) {
				t.Error("the payload has changed")
			}
		})
	}
}

func TestFromBundleRefuses(t *testing.T) {
	payload, err := channel().Payload()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := statement.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := statement.Sign(payload, signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"a member that stands twice": bytes.Replace(leaf, []byte(`"mediaType":`), []byte(`"mediaType":"x","mediaType":`), 1),
		"an unknown member":          bytes.Replace(leaf, []byte(`"mediaType":`), []byte(`"extra":"x","mediaType":`), 1),
		"no JSON":                    []byte("hello"),
		"too long":                   append(bytes.Clone(leaf), bytes.Repeat([]byte(" "), 4*statement.MaxLeafBytes)...),
	} {
		if _, err := statement.FromBundle(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
