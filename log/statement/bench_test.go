package statement

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"
)

// BenchmarkParseAndVerify reads a leaf and verifies it, and says how many times
// as long that takes as the bare signature over the same bytes, measured in the
// same run.
func BenchmarkParseAndVerify(b *testing.B) {
	payload := samplePayload(b, "release")
	pae := preAuthEncoding(payload)
	b.Run("ed25519", func(b *testing.B) {
		signer := testKey("publisher")
		leaf, err := Sign(payload, signer)
		if err != nil {
			b.Fatal(err)
		}
		s, err := Parse(leaf)
		if err != nil {
			b.Fatal(err)
		}
		key := signer.Public().(ed25519.PublicKey)
		benchmarkVerify(b, leaf, publicKey(b, signer), func() bool { return ed25519.Verify(key, pae, s.signature) })
	})
	b.Run("p256", func(b *testing.B) {
		signer := testKeyP256("publisher")
		leaf, err := Sign(payload, signer)
		if err != nil {
			b.Fatal(err)
		}
		s, err := Parse(leaf)
		if err != nil {
			b.Fatal(err)
		}
		key := signer.Public().(*ecdsa.PublicKey)
		benchmarkVerify(b, leaf, publicKey(b, signer), func() bool {
			digest := sha256.Sum256(pae)
			return ecdsa.VerifyASN1(key, digest[:], s.signature)
		})
	})
}

func benchmarkVerify(b *testing.B, leaf []byte, key *PublicKey, bare func() bool) {
	// In turn, since other work on the machine would favour one of two runs.
	var ours, floor time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		s, err := Parse(leaf)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.VerifyAny([]*PublicKey{key}); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if !bare() {
			b.Fatal("the bare signature does not verify")
		}
		ours, floor = ours+between.Sub(start), floor+time.Since(between)
		n++
	}
	b.ReportMetric(float64(ours)/float64(n), "ns/op")
	b.ReportMetric(float64(ours)/float64(floor), "x-bare-signature")
}
