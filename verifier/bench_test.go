package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha512"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// BenchmarkAppraise measures a whole verdict from the document's bytes, against
// a floor in the same run: the signatures in it verified by the standard
// library and nothing else. The default scene has a report and the three
// signatures of its chain, three statements, and two checkpoints with three
// signatures each.
func BenchmarkAppraise(b *testing.B) {
	s := newScene(b)
	in := s.input()
	raw := must[[]byte](b)(in.Document.Marshal())
	opts := s.options()
	opts.State = nil

	chain := s.chip
	edKey := key("bench")
	message := make([]byte, 300)
	signature := ed25519.Sign(edKey, message)
	reportKey := chain.Endorsement.PublicKey.(*ecdsa.PublicKey)
	digest := sha512.Sum384(in.Document.Report[:0x2a0])
	// R and S stand in the report as little-endian numbers of 72 bytes
	// (SEV-SNP ABI 56860, table of the signature).
	number := func(at int) *big.Int {
		le := slices.Clone(in.Document.Report[at : at+72])
		slices.Reverse(le)
		return new(big.Int).SetBytes(le)
	}
	r, sv := number(0x2a0), number(0x2a0+72)
	floor := func() {
		if !ecdsa.Verify(reportKey, digest[:], r, sv) {
			b.Fatal("the floor verifies nothing")
		}
		if chain.Endorsement.CheckSignatureFrom(chain.ASK) != nil || chain.ASK.CheckSignatureFrom(chain.ARK) != nil || chain.ARK.CheckSignatureFrom(chain.ARK) != nil {
			b.Fatal("the floor's chain does not verify")
		}
		for range 3 + 2*3 {
			if !ed25519.Verify(edKey.Public().(ed25519.PublicKey), message, signature) {
				b.Fatal("the floor verifies nothing")
			}
		}
	}
	var bare, whole time.Duration
	n := 0
	for b.Loop() {
		// Turn and turn about, so that a busy machine is equally unfair.
		begin := time.Now()
		floor()
		bare += time.Since(begin)
		begin, n = time.Now(), n+1
		d, err := evidence.ParseDocument(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Appraise(context.Background(), Input{Document: d, Nonce: in.Nonce, SPKI: in.SPKI}, opts); err != nil {
			b.Fatal(err)
		}
		whole += time.Since(begin)
	}
	b.ReportMetric(float64(whole.Nanoseconds())/float64(n), "verdict-ns/op")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(n), "bare-ns/op")
	b.ReportMetric(float64(whole)/float64(bare), "x-bare")
}
