package log_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
)

// TestFailingStorage: an addition that failed may be tried again if it is not in
// the log, and is answered for if it is in after all.
func TestFailingStorage(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	l, url, _ := w.Open()
	c := log.NewClient(url, w.Policy, nil)
	putAddenda(t, c)
	publish(t, c, "0.9.0")
	// Requests are sent one after the other, so that the wrapper may change.
	var fail func(tessera.IndexFuture) tessera.IndexFuture
	l.WrapAdd(func(add tessera.AddFn) tessera.AddFn {
		return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			if fail == nil {
				return add(ctx, e)
			}
			return fail(func() (tessera.Index, error) { return add(ctx, e)() })
		}
	})
	full := errors.New("no space left")
	never := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	fail = func(tessera.IndexFuture) tessera.IndexFuture {
		return func() (tessera.Index, error) { return tessera.Index{}, full }
	}
	if _, _, err := c.Add(t.Context(), never.Leaf); code(err) != log.Unavailable {
		t.Errorf("with a full disk: %v", err)
	}
	after := logtest.Sign(t, logtest.Release("1.1.0", ""), "publisher")
	fail = func(added tessera.IndexFuture) tessera.IndexFuture {
		return func() (tessera.Index, error) {
			if _, err := added(); err != nil {
				return tessera.Index{}, err
			}
			return tessera.Index{}, full
		}
	}
	if _, index, err := c.Add(t.Context(), after.Leaf); err != nil || index != 1 {
		t.Errorf("in after all: index %d, %v", index, err)
	}
	fail = nil
	if _, index, err := c.Add(t.Context(), never.Leaf); err != nil || index != 2 {
		t.Errorf("with space again: index %d, %v", index, err)
	}
	if _, index, err := c.Add(t.Context(), after.Leaf); err != nil || index != 1 {
		t.Errorf("what was in after all, again: index %d, %v", index, err)
	}
}

func TestClosedLog(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	l, err := log.Open(t.Context(), w.Config())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	withdrawal := logtest.Sign(t, logtest.Withdrawal(logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher"), "a test"), "withdrawer")
	if _, err := l.Add(t.Context(), withdrawal.Leaf); code(err) != log.Unavailable {
		t.Errorf("a closed log: %v", err)
	}
}

// TestTesseraSpeaksThroughTheLogger: and not to standard error.
func TestTesseraSpeaksThroughTheLogger(t *testing.T) {
	w := logtest.NewWorld(t, 1)
	w.Witnesses[0].Kill()
	var heard lockedBuffer
	w.Logger = slog.New(slog.NewTextHandler(&heard, nil))
	_, _, stop := w.Open()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(heard.String(), "from=tessera"); {
		if time.Now().After(deadline) {
			t.Fatalf("heard only:\n%s", heard.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
