package statement

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// FuzzParsePayload: what is accepted can be written, says the same when read
// again, and has no other bytes when it has only our members.
func FuzzParsePayload(f *testing.F) {
	for _, input := range vectors.Inputs(f, "statement") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := ParsePayload(payload)
		if err != nil {
			return
		}
		if len(payload) > MaxPayloadBytes {
			t.Fatalf("accepted %d bytes", len(payload))
		}
		again, err := s.Payload()
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		// Members of in-toto's own layer are the only ones that get lost.
		if len(again) > len(payload) || len(again) == len(payload) && !bytes.Equal(again, payload) {
			t.Fatalf("read %q\nwrote %q", payload, again)
		}
		s2, err := ParsePayload(again)
		if err != nil || !reflect.DeepEqual(s, s2) {
			t.Fatalf("read again: %v", err)
		}
	})
}

// FuzzParse: a leaf that is accepted is the only form of its bundle.
func FuzzParse(f *testing.F) {
	for _, input := range vectors.Inputs(f, "leaf") {
		f.Add(input)
	}
	key := publicKey(f, testKey("publisher"))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		s, err := Parse(leaf)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Leaf, leaf) || s.ID != IDOf(s.Payload) {
			t.Fatal("leaf or identity is not that of the input")
		}
		again, err := FromBundle(leaf)
		if err != nil || !bytes.Equal(again, leaf) {
			t.Fatalf("the same bundle has two leaves: %v", err)
		}
		_, _ = s.VerifyAny([]*PublicKey{key})
	})
}

func FuzzParsePublicKeyPEM(f *testing.F) {
	f.Add(publicKey(f, testKey("publisher")).PEM())
	f.Add(publicKey(f, testKeyP256("publisher")).PEM())
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicKeyPEM(text)
		if err != nil {
			return
		}
		again, err := ParsePublicKeyPEM(key.PEM())
		if err != nil || !again.Equal(key) || again.Hint() != key.Hint() {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
