package log_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// BenchmarkAdd adds statements over HTTP, many at once, each until its receipt
// has been verified, and compares with Tessera alone, which takes the same bytes
// in this process and answers when they are published. "x-tessera" is how many
// times as long the whole takes.
func BenchmarkAdd(b *testing.B) {
	const writers = 256
	w := logtest.NewWorld(b, 0)
	c, _, _ := opened(b, w)
	release := publish(b, c, "1.0.0")
	var round int
	var took, floor time.Duration
	const adds = 2 * writers
	for b.Loop() {
		b.StopTimer()
		var leaves [][]byte
		for i := range adds {
			leaves = append(leaves, logtest.Sign(b, logtest.Rebuild(release, fmt.Sprintf("%d-%d", round, i)), "rebuilder").Leaf)
		}
		round++
		began := time.Now()
		bare(b, leaves, writers)
		floor += time.Since(began)
		b.StartTimer()
		began = time.Now()
		each(leaves, writers, func(leaf []byte) {
			if _, _, err := c.Add(context.Background(), leaf); err != nil {
				b.Error(err)
			}
		})
		took += time.Since(began)
	}
	b.ReportMetric(float64(round*adds)/took.Seconds(), "adds/s")
	b.ReportMetric(float64(round*adds)/floor.Seconds(), "tessera-adds/s")
	b.ReportMetric(took.Seconds()/floor.Seconds(), "x-tessera")
}

// bare adds the leaves to a new Tessera log with the same settings.
func bare(b *testing.B, leaves [][]byte, writers int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	a, shutdown, r, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(logtest.LogSigner(b)).
		WithBatching(tessera.DefaultBatchMaxSize, 100*time.Millisecond).
		WithCheckpointInterval(100*time.Millisecond).
		WithCheckpointRepublishInterval(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, r.ReadCheckpoint, 20*time.Millisecond)
	each(leaves, writers, func(leaf []byte) {
		if _, _, err := awaiter.Await(ctx, a.Add(ctx, tessera.NewEntry(leaf))); err != nil {
			b.Error(err)
		}
	})
	if err := shutdown(ctx); err != nil {
		b.Error(err)
	}
}

func each(leaves [][]byte, writers int, do func([]byte)) {
	work := make(chan []byte)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for leaf := range work {
				do(leaf)
			}
		})
	}
	for _, leaf := range leaves {
		work <- leaf
	}
	close(work)
	wg.Wait()
}

// BenchmarkOpen opens a log of a thousand entries: the index is rebuilt from
// them. "x-parse" is how many times as long that takes as parsing them.
func BenchmarkOpen(b *testing.B) {
	w := logtest.NewWorld(b, 0)
	l, url, stop := w.Open()
	putAddenda(b, log.NewClient(url, w.Policy, nil))
	release := logtest.Sign(b, logtest.Release("1.0.0", ""), "publisher")
	leaves := [][]byte{release.Leaf}
	for i := range 1000 {
		leaves = append(leaves, logtest.Sign(b, logtest.Rebuild(release, fmt.Sprint(i)), "rebuilder").Leaf)
	}
	each(leaves, 512, func(leaf []byte) {
		if _, err := l.Add(context.Background(), leaf); err != nil {
			b.Error(err)
		}
	})
	stop()
	var took, floor time.Duration
	opened := 0
	for b.Loop() {
		began := time.Now()
		for _, leaf := range leaves {
			if _, err := statement.Parse(leaf); err != nil {
				b.Fatal(err)
			}
		}
		floor += time.Since(began)
		began = time.Now()
		l, err := log.Open(context.Background(), w.Config())
		if err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
		opened++
		l.Close(context.Background())
	}
	b.ReportMetric(float64(opened*len(leaves))/took.Seconds(), "entries/s")
	b.ReportMetric(took.Seconds()/floor.Seconds(), "x-parse")
}
