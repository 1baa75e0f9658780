package tpm_test

import (
	"math/big"
	"testing"
	"time"
)

func bigInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// benchmark alternates the bare cryptography and the whole, and reports how
// many times the first the second takes.
func benchmark(b *testing.B, floor, whole func() bool) {
	b.Helper()
	var bare, all time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		ok := floor()
		mid := time.Now()
		ok = whole() && ok
		bare, all = bare+mid.Sub(start), all+time.Since(mid)
		if !ok {
			b.Fatal("the evidence does not verify")
		}
	}
	b.ReportMetric(float64(all)/float64(bare), "x-floor")
	b.ReportMetric(float64(all.Nanoseconds())/float64(b.N), "ns/verification")
}
