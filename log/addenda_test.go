package log

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// TestNoAddendumIsKnownBeforeItIsDurable: while an upload is being synced, its
// file has its name already. Neither a release that names it nor a second upload
// may be answered by then.
func TestNoAddendumIsKnownBeforeItIsDurable(t *testing.T) {
	dir := t.TempDir()
	a, err := openAddenda(dir, dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	d := statement.DigestOf([]byte("bytes"))
	a.mu.Lock() // as put holds it while it syncs
	if err := durable.MkdirAll(filepath.Dir(a.path(d)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path(d), []byte("bytes"), 0o644); err != nil {
		t.Fatal(err)
	}
	known, stored := make(chan error, 1), make(chan error, 1)
	go func() { _, err := a.has(d); known <- err }()
	go func() { stored <- a.put(d, strings.NewReader("bytes")) }()
	select {
	case <-known:
		t.Fatal("a release that names it would be taken")
	case <-stored:
		t.Fatal("a second upload was confirmed")
	case <-time.After(50 * time.Millisecond):
	}
	a.mu.Unlock()
	for _, answer := range []chan error{known, stored} {
		if err := <-answer; err != nil {
			t.Error(err)
		}
	}
}
