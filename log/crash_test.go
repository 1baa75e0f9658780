package log_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

const kills = 20

// TestKilledLogLosesNothing kills the log under concurrent publishing, again and
// again. Everything that it had answered for, with a receipt or without, must
// then be in it, once, where it said. Pairs of workers publish the same versions
// with other payloads: of each version there must be one.
func TestKilledLogLosesNothing(t *testing.T) {
	w := logtest.NewWorld(t, 1)
	// Short, so that some adds are answered without a receipt.
	w.ReceiptTimeout = 150 * time.Millisecond
	process := w.Process()
	c := log.NewClient(process.URL, w.Policy, nil)
	putAddenda(t, c)

	var mu sync.Mutex
	answered := make(map[statement.ID]int64)
	var sent []*statement.Signed
	var receipts, without, conflicts int
	var killed atomic.Bool
	// add sends a leaf until the log is killed or answers.
	add := func(s *statement.Signed) (done bool) {
		_, index, err := c.Add(context.Background(), s.Leaf)
		noReceipt := code(err) == log.NoReceipt
		if code(err) == log.Conflict {
			mu.Lock()
			defer mu.Unlock()
			conflicts++
			if before, ok := answered[s.ID]; ok {
				t.Errorf("%s was answered with index %d, and now there is another of its version", s.ID, before)
			}
			return true
		}
		if err != nil && !noReceipt {
			if refused := new(log.Error); errors.As(err, &refused) || !killed.Load() {
				t.Errorf("add: %v", err)
			}
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if noReceipt {
			without++
		} else {
			receipts++
		}
		if before, ok := answered[s.ID]; ok && before != index {
			t.Errorf("%s was answered with index %d, and now with %d", s.ID, before, index)
		}
		answered[s.ID] = index
		return true
	}
	answers := func() int {
		mu.Lock()
		defer mu.Unlock()
		return receipts + without
	}
	for round := range kills {
		// Every third time there is no quorum, and adds are answered without a
		// receipt.
		if round%3 == 2 {
			w.Witnesses[0].Kill()
		}
		before := answers()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					s := logtest.Sign(t, logtest.Release(fmt.Sprintf("%d.%d.%d", round, worker/2, n), fmt.Sprint(worker%2)), "publisher")
					mu.Lock()
					// Also what was sent before, perhaps to a log that was killed
					// before it could answer.
					if len(sent) > 0 && n%3 == 0 {
						s = sent[rand.IntN(len(sent))]
					}
					sent = append(sent, s)
					mu.Unlock()
					if !add(s) {
						return
					}
				}
			})
		}
		// Wherever the kill falls, the log has answered for something before.
		for deadline := time.Now().Add(10 * time.Second); answers() < before+8 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		killed.Store(true)
		process.Kill()
		close(stop)
		wg.Wait()
		if round%3 == 2 {
			w.Witnesses[0].Restart()
		}
		process.Restart()
		killed.Store(false)
	}
	t.Logf("%d answers with a receipt, %d without, %d conflicts, %d statements, %d kills", receipts, without, conflicts, len(answered), kills)
	if receipts == 0 || without == 0 || conflicts == 0 || len(answered) < kills {
		t.Fatalf("the log answered too little for this to tell anything")
	}

	top := int64(0)
	for _, i := range answered {
		top = max(top, i)
	}
	var checkpoint *receipt.Checkpoint
	for deadline := time.Now().Add(20 * time.Second); checkpoint == nil || checkpoint.Size <= top; {
		if time.Now().After(deadline) {
			t.Fatalf("the published checkpoint does not reach entry %d", top)
		}
		var err error
		if checkpoint, err = c.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	found := make(map[statement.ID][]int64)
	versions := make(map[string]statement.ID)
	for e, err := range c.Entries(t.Context(), checkpoint, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := statement.Parse(e.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		found[s.ID] = append(found[s.ID], e.Index)
		if r, ok := s.Release(); ok {
			if other, ok := versions[r.Version]; ok && other != s.ID {
				t.Errorf("entry %d is a second payload of version %s", e.Index, r.Version)
			}
			versions[r.Version] = s.ID
		}
	}
	for id, index := range answered {
		if at := found[id]; len(at) == 0 || at[0] != index {
			t.Errorf("%s was answered with index %d and is at %v", id, index, at)
		}
	}
	for id, at := range found {
		if len(at) != 1 {
			t.Errorf("%s is in the log %d times, at %v", id, len(at), at)
		}
	}
	process.Kill()
	checkWithFsck(t, w)
}

// checkWithFsck has Tessera's own checker go over the log's folder.
func checkWithFsck(t *testing.T, w *logtest.World) {
	t.Helper()
	_, vkey := logtest.LogKey(t)
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	f := fsck.New(logtest.Origin, v, &client.FileFetcher{Root: w.Dir}, func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var hashes [][]byte
		for _, e := range b.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return hashes, nil
	}, fsck.Opts{})
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("fsck: %v", err)
	}
}
