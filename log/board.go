package log

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
)

// pollInterval is how often the published checkpoint is looked at. It is a file
// of this process's own, and small.
const pollInterval = 20 * time.Millisecond

// A board holds the checkpoint that was published last, and wakes those who wait
// for one. Tessera's PublicationAwaiter leaves its callers waiting past their
// context as long as no checkpoint was ever published, which is how a new log
// with a witness down begins.
type board struct {
	policy *receipt.Policy
	read   func(context.Context) ([]byte, error)
	logger *slog.Logger

	mu      sync.Mutex
	current *receipt.Checkpoint // nil before the first
	changed chan struct{}       // closed and replaced with every new one
}

func newBoard(policy *receipt.Policy, read func(context.Context) ([]byte, error), logger *slog.Logger) *board {
	return &board{policy: policy, read: read, logger: logger, changed: make(chan struct{})}
}

// run looks for new checkpoints until ctx ends.
func (b *board) run(ctx context.Context) {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			b.logger.Error("reading the published checkpoint", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look takes up the published checkpoint if it is another than before.
func (b *board) look(ctx context.Context) error {
	note, err := b.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil && bytes.Equal(note, b.current.Note) {
		return nil
	}
	// That a quorum cosigned it is for a receipt to say, and depends on the time.
	c, err := b.policy.OpenUnwitnessed(note)
	if err != nil {
		return err
	}
	b.current = c
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// latest gives the checkpoint published last, or nil, and a channel that is
// closed when there is another.
func (b *board) latest() (*receipt.Checkpoint, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed
}

// after waits for a checkpoint of a tree in which index stands.
func (b *board) after(ctx context.Context, index int64) (*receipt.Checkpoint, error) {
	for {
		c, changed := b.latest()
		if c != nil && c.Size > index {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// treeOf is the tree of a checkpoint.
func treeOf(c *receipt.Checkpoint) tlog.Tree {
	return tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}
}
