package measure

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

const benchInitrd = 512 << 20

// repeated reads one block again and again, so that a large file needs no
// memory and no disk.
type repeated struct {
	block []byte
	left  int64
}

func (r *repeated) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), r.left)], r.block)
	r.left -= int64(n)
	return n, nil
}

func newInitrd() *repeated {
	block := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block)
	return &repeated{block, benchInitrd}
}

// BenchmarkLargeInitrd measures a launch with an initrd of 512 MiB, and reports
// its time as a multiple of one bare SHA-256 pass over the same initrd in the
// same run ("x-sha256").
func BenchmarkLargeInitrd(b *testing.B) {
	firmware := amdSev().build()
	b.SetBytes(benchInitrd)
	b.ReportAllocs()
	var measured, floor time.Duration
	for b.Loop() {
		begin := time.Now()
		in := qemu(firmware)
		in.Kernel, in.Initrd = newInitrd(), nil
		in.Kernel.(*repeated).left = 8 << 20
		in.Initrd = newInitrd()
		if _, err := SNP(in); err != nil {
			b.Fatal(err)
		}
		measured += time.Since(begin)

		b.StopTimer()
		begin = time.Now()
		if _, err := io.Copy(sha256.New(), newInitrd()); err != nil {
			b.Fatal(err)
		}
		floor += time.Since(begin)
		b.StartTimer()
	}
	b.ReportMetric(measured.Seconds()/floor.Seconds(), "x-sha256")
}
