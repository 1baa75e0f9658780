package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Add puts a leaf into the log and waits for a receipt. A payload that is in the
// log already, in whatever bundle, is answered with the leaf and a receipt of
// its first entry; a rebuild is known by its payload and its signer. Refusals, and [NoReceipt] with the index of the entry that is
// in, are *Error.
//
// Once Add has answered, with a receipt or without, the entry survives a crash.
// If ctx ends first, the entry may be in or not; ask again.
func (l *Log) Add(ctx context.Context, leaf []byte) (*receipt.Transparent, error) {
	if len(leaf) > statement.MaxLeafBytes {
		return nil, errorf(TooLarge, "a leaf has at most %d bytes", statement.MaxLeafBytes)
	}
	s, err := statement.Parse(leaf)
	if err != nil {
		return nil, errorf(Malformed, "%v", err)
	}
	a, ok := l.index.known(s)
	if !ok {
		if err := l.mayAdd(s); err != nil {
			return nil, err
		}
		if a, err = l.begin(s); err != nil {
			return nil, err
		}
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, errorf(Unavailable, "the entry is not written yet: %v", context.Cause(ctx))
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.leaf != tlog.RecordHash(leaf) {
		leaf = nil // another bundle of the same payload
	}
	return l.answer(ctx, a.index, leaf)
}

// mayAdd checks everything that does not depend on other additions.
func (l *Log) mayAdd(s *statement.Signed) error {
	w, err := l.c.Admission.admit(s)
	if err != nil {
		return err
	}
	if r, ok := s.Statement.Release(); ok {
		for _, ref := range []statement.Reference{r.Recipe, r.Lock} {
			known, err := l.addenda.has(ref.Digest)
			if err != nil {
				l.c.Logger.Error("add", "error", err)
				return errorf(Unavailable, "the addenda cannot be read")
			}
			if !known {
				return errorf(MissingAddenda, "%q (%s) is not stored here; upload it first", ref.Name, ref.Digest.SHA256)
			}
		}
	}
	l.c.Logger.Debug("admitted", "writer", w.Name, "payload", s.ID)
	return nil
}

// begin reserves the statement and has Tessera add it, unless another request
// was first. It does not wait.
func (l *Log) begin(s *statement.Signed) (*addition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errorf(Unavailable, "the log is closing")
	}
	select {
	case l.slots <- struct{}{}:
	default:
		return nil, errorf(Unavailable, "the log is busy; try again")
	}
	a, mine, err := l.index.reserve(s)
	if !mine {
		<-l.slots
		return a, err
	}
	// The request may go away; the addition is then somebody else's to find.
	l.adding.Go(func() {
		defer func() { <-l.slots }()
		l.add(s, a)
	})
	return a, nil
}

// add has Tessera sequence the statement. Its future resolves once the entry is
// durably in the tree, so that is the moment from which the log answers for it.
func (l *Log) add(s *statement.Signed, a *addition) {
	got, err := l.appender.add(l.ctx, tessera.NewEntry(s.Leaf))()
	if err == nil {
		l.index.settle(a, int64(got.Index))
		l.c.Logger.Info("added", "index", got.Index, "payload", s.ID)
		return
	}
	l.c.Logger.Error("adding an entry", "payload", s.ID, "error", err)
	// The entry may be in nevertheless: the last thing that Tessera does is to
	// sync the new tree state, and that may fail after it took effect.
	i, found, lookErr := l.find(s.Leaf, a.from)
	switch {
	case lookErr != nil:
		// Neither answer is safe. The reservation stands until the log is opened
		// again, and keeps everybody from adding the payload twice.
		l.c.Logger.Error("looking for an entry that could not be added", "payload", s.ID, "error", lookErr)
		a.err = errorf(Unavailable, "the log's storage failed; the operator has to open it again")
		close(a.done)
	case found:
		l.index.settle(a, i)
	default:
		l.index.release(s, a, errorf(Unavailable, "the log's storage failed; try again"))
	}
}

// find looks for a leaf from an index on.
func (l *Log) find(leaf []byte, from int64) (int64, bool, error) {
	size, err := l.appender.reader.IntegratedSize(l.ctx)
	if err != nil {
		return 0, false, err
	}
	for e, err := range l.written(l.ctx, from, int64(size)) {
		if err != nil {
			return 0, false, err
		}
		if bytes.Equal(e.Leaf, leaf) {
			return e.Index, true, nil
		}
	}
	return 0, false, nil
}

// written walks over the entries from an index on as they are on disk, whether
// published or not.
func (l *Log) written(ctx context.Context, from, size int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for from < size {
			bundle := bundleOf(from, size)
			data, err := l.tiles.ReadTiles(ctx, []tlog.Tile{bundle})
			if err != nil {
				yield(Entry{}, fmt.Errorf("reading what is written: %w", err))
				return
			}
			leaves, err := splitBundle(data[0], bundle.W)
			if err != nil {
				yield(Entry{}, fmt.Errorf("reading what is written: %s: %w", torchwood.TilePath(bundle), err))
				return
			}
			for _, leaf := range leaves[from-bundle.N*torchwood.TileWidth:] {
				if !yield(Entry{Index: from, Leaf: leaf}, nil) {
					return
				}
				from++
			}
		}
	}
}

// answer waits for a checkpoint that covers the entry, and gives it with a
// receipt. The leaf is read from the log if it is nil.
func (l *Log) answer(ctx context.Context, index int64, leaf []byte) (*receipt.Transparent, error) {
	waiting, cancel := context.WithTimeout(ctx, l.c.ReceiptTimeout)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	c, err := l.board.after(waiting, index)
	if err != nil {
		return nil, noReceipt(index, fmt.Sprintf("entry %d is in the log, but no checkpoint that covers it was cosigned by the quorum within %v; send the same bytes again for its receipt", index, l.c.ReceiptTimeout))
	}
	t, err := l.transparent(ctx, c, index, leaf)
	if e := new(receipt.Error); errors.As(err, &e) {
		// The witnesses' clocks, if anything, are wrong: Tessera had the quorum.
		l.c.Logger.Error("the log's receipt does not verify by its own policy", "index", index, "error", err)
		return nil, noReceipt(index, fmt.Sprintf("entry %d is in the log, but its receipt does not verify: %v", index, err))
	}
	if err != nil {
		l.c.Logger.Error("making a receipt", "index", index, "error", err)
		return nil, noReceipt(index, fmt.Sprintf("entry %d is in the log, but its receipt could not be made now", index))
	}
	return t, nil
}

func noReceipt(index int64, detail string) *Error {
	return &Error{Code: NoReceipt, Detail: detail, Index: index}
}

// transparent makes the transparent statement of an entry under a checkpoint,
// and verifies it as a reader will.
func (l *Log) transparent(ctx context.Context, c *receipt.Checkpoint, index int64, leaf []byte) (*receipt.Transparent, error) {
	if leaf == nil {
		bundle := bundleOf(index, c.Size)
		leaves, err := readBundle(ctx, l.tiles, treeOf(c), bundle)
		if err != nil {
			return nil, err
		}
		leaf = leaves[index-bundle.N*torchwood.TileWidth]
	}
	proof, _, err := prove(ctx, l.tiles, l.c.Policy, c, index, leaf, l.c.Now())
	if err != nil {
		return nil, err
	}
	return &receipt.Transparent{Leaf: leaf, Receipts: []string{string(proof)}}, nil
}

// prove makes the receipt for the leaf at an index under a checkpoint, and
// verifies it.
func prove(ctx context.Context, tr torchwood.TileReader, policy *receipt.Policy, c *receipt.Checkpoint, index int64, leaf []byte, now time.Time) (proof []byte, r *receipt.Receipt, err error) {
	if index < 0 || index >= c.Size {
		return nil, nil, fmt.Errorf("proving entry %d: the log's checkpoint has only %d entries", index, c.Size)
	}
	hashes, err := tlog.ProveRecord(c.Size, index, torchwood.TileHashReaderWithContext(ctx, treeOf(c), tr))
	if err != nil {
		return nil, nil, fmt.Errorf("proving entry %d in the tree of size %d: %w", index, c.Size, err)
	}
	proof = receipt.FormatProof(index, hashes, c.Note)
	if r, err = policy.Verify(leaf, proof, now); err != nil {
		return nil, nil, fmt.Errorf("proving entry %d in the tree of size %d: %w", index, c.Size, err)
	}
	return proof, r, nil
}
