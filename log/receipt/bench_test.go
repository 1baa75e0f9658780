package receipt

import (
	"crypto/ed25519"
	"testing"
	"time"
)

// BenchmarkVerify verifies a receipt with three cosignatures, and says how many
// times as long that takes as the four bare signatures, measured in the same
// run.
func BenchmarkVerify(b *testing.B) {
	p := mustPolicy(b, policyText("group two 2 w1 w2 w3", "quorum two"))
	leaf := sampleLeaves()[sampleIndex]
	proof := sampleReceipt(b, testLog.sign, w1.at(ago(time.Hour)), w2.at(ago(time.Minute)), w3.at(ago(time.Second)))
	message := make([]byte, 160)
	public := testLog.key.Public().(ed25519.PublicKey)
	sig := ed25519.Sign(testLog.key, message)
	// In turn, since other work on the machine would favour one of two runs.
	var ours, floor time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		if _, err := p.Verify(leaf, proof, testNow); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		for range 4 {
			if !ed25519.Verify(public, message, sig) {
				b.Fatal("the bare signature does not verify")
			}
		}
		ours, floor = ours+between.Sub(start), floor+time.Since(between)
		n++
	}
	b.ReportMetric(float64(ours)/float64(n), "ns/op")
	b.ReportMetric(float64(ours)/float64(floor), "x-bare-signatures")
}
