package statement

import (
	"bytes"
	"crypto"
	"errors"
	"reflect"
	"testing"
)

func samples(t testing.TB) map[string]*Statement {
	return map[string]*Statement{
		"release":         sampleRelease(),
		"reproduced":      sampleRebuild(t, Reproduced),
		"not-reproduced":  sampleRebuild(t, NotReproduced),
		"could-not-build": sampleRebuild(t, CouldNotBuild),
		"withdrawal":      sampleWithdrawal(t),
		"channel":         sampleChannel(t),
	}
}

func TestSignAndParse(t *testing.T) {
	for name, s := range samples(t) {
		for kind, signer := range map[string]crypto.Signer{"ed25519": testKey("publisher"), "p256": testKeyP256("publisher")} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				payload, err := s.Payload()
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := Sign(payload, signer)
				if err != nil {
					t.Fatal(err)
				}
				signed, err := Parse(leaf)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(signed.Payload, payload) || signed.ID != IDOf(payload) || !bytes.Equal(signed.Leaf, leaf) {
					t.Error("payload, identity or leaf came back changed")
				}
				if !reflect.DeepEqual(signed.Statement, s) {
					t.Errorf("got %+v, want %+v", signed.Statement, s)
				}
				key, stranger := publicKey(t, signer), publicKey(t, testKey("stranger"))
				got, err := signed.VerifyAny([]*PublicKey{stranger, key})
				if err != nil || !got.Equal(key) {
					t.Errorf("VerifyAny = %v, %v", got, err)
				}
				if _, err := signed.VerifyAny([]*PublicKey{stranger}); !errors.Is(err, ErrUnknownKey) {
					t.Errorf("without the signer's key: %v, want ErrUnknownKey", err)
				}
				signed.signature[9] ^= 1
				if _, err := signed.VerifyAny([]*PublicKey{key}); !errors.Is(err, ErrBadSignature) {
					t.Errorf("with a changed signature: %v, want ErrBadSignature", err)
				}
			})
		}
	}
}

func TestSampleIdentity(t *testing.T) {
	if got := releaseID(t).String(); got != sampleIdentity {
		t.Errorf("the sample release is %s; the faults say %s", got, sampleIdentity)
	}
}
