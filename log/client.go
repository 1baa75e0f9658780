package log

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Client reads and writes one log. It is safe for concurrent use.
type Client struct {
	fetcher *fetcher
	policy  *receipt.Policy
	now     func() time.Time
}

// readTimeout bounds one read where the caller's client has no timeout of its
// own. A full entry bundle may have 16 MiB.
const readTimeout = time.Minute

// NewClient makes a client of the log at url that believes what the policy
// proves. hc may be nil; one that is given keeps its timeouts, and should have
// some.
func NewClient(url string, policy *receipt.Policy, hc *http.Client) *Client {
	if hc == nil {
		hc = &http.Client{Timeout: readTimeout}
	}
	return &Client{fetcher: &fetcher{base: strings.TrimSuffix(url, "/"), hc: hc}, policy: policy, now: time.Now}
}

// Policy is the policy that the client was made with.
func (c *Client) Policy() *receipt.Policy { return c.policy }

// Checkpoint gives the log's newest checkpoint, with the quorum of the policy.
func (c *Client) Checkpoint(ctx context.Context) (*receipt.Checkpoint, error) {
	note, err := c.fetcher.get(ctx, "checkpoint", receipt.MaxNoteBytes)
	if err != nil {
		return nil, err
	}
	checkpoint, err := c.policy.OpenCheckpoint(note, c.now())
	if err != nil {
		return nil, fmt.Errorf("opening the checkpoint at %s: %w", c.fetcher.base, err)
	}
	return checkpoint, nil
}

// Entries walks over the entries of a checkpoint's tree from an index on, each
// verified to be in it. It ends at the end of the tree, or with an error.
func (c *Client) Entries(ctx context.Context, checkpoint *receipt.Checkpoint, from int64) iter.Seq2[Entry, error] {
	return entries(ctx, c.fetcher, treeOf(checkpoint), from)
}

// Receipt gives the newest receipt for the leaf at an index, verified.
func (c *Client) Receipt(ctx context.Context, index int64, leaf []byte) (proof []byte, r *receipt.Receipt, err error) {
	checkpoint, err := c.Checkpoint(ctx)
	if err != nil {
		return nil, nil, err
	}
	return c.ReceiptAt(ctx, checkpoint, index, leaf)
}

// ReceiptAt gives the receipt for the leaf at an index under a checkpoint,
// verified.
func (c *Client) ReceiptAt(ctx context.Context, checkpoint *receipt.Checkpoint, index int64, leaf []byte) (proof []byte, r *receipt.Receipt, err error) {
	return prove(ctx, c.fetcher, c.policy, checkpoint, index, leaf, c.now())
}

// A ForkError is the proof that a log has two histories: both notes are signed
// by it, and no append-only log has both trees. Keep them; show them.
type ForkError struct {
	Old, New *receipt.Checkpoint
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("the log %s has forked: its signed trees of %d and of %d entries do not agree", e.Old.Origin, e.Old.Size, e.New.Size)
}

// Consistency checks that two checkpoints of the log, in either order, are of
// one history. If they are of two it gives a *ForkError; another error says that
// the log could not be read, or does not serve the tiles of the larger tree, and
// proves nothing.
func (c *Client) Consistency(ctx context.Context, old, new *receipt.Checkpoint) error {
	if old.Origin != new.Origin {
		return fmt.Errorf("comparing checkpoints of two logs, %q and %q", old.Origin, new.Origin)
	}
	if old.Size > new.Size {
		old, new = new, old
	}
	switch {
	case old.Size == new.Size && old.Root == new.Root, old.Size == 0:
		return nil
	case old.Size == new.Size:
		return &ForkError{Old: old, New: new}
	}
	// The larger tree's own tiles, which are verified against its root, tell what
	// its first entries hash to. Unlike a proof that does not verify, that tells
	// a fork from damaged tiles.
	root, err := tlog.TreeHash(old.Size, torchwood.TileHashReaderWithContext(ctx, treeOf(new), c.fetcher))
	if err != nil {
		return fmt.Errorf("comparing the checkpoints of sizes %d and %d: %w", old.Size, new.Size, err)
	}
	if root != tlog.Hash(old.Root) {
		return &ForkError{Old: old, New: new}
	}
	return nil
}

// Add puts a leaf into the log. The transparent statement holds the leaf of the
// payload's first entry, which may be another bundle, and is verified. If the
// log has the entry but no receipt yet, the error is an *Error with [NoReceipt]
// and index is the entry's; other refusals are *Error too.
func (c *Client) Add(ctx context.Context, leaf []byte) (t *receipt.Transparent, index int64, err error) {
	sent, err := statement.Parse(leaf)
	if err != nil {
		return nil, 0, err
	}
	body, err := c.fetcher.post(ctx, "add", bytes.NewReader(leaf), int64(len(leaf)), receipt.MaxTransparentBytes)
	if e := new(Error); errors.As(err, &e) && e.Code == NoReceipt {
		return nil, e.Index, err
	}
	if err != nil {
		return nil, 0, err
	}
	if t, err = receipt.ParseTransparent(body); err != nil {
		return nil, 0, fmt.Errorf("adding to %s: %w", c.fetcher.base, err)
	}
	got, err := statement.Parse(t.Leaf)
	if err != nil {
		return nil, 0, fmt.Errorf("adding to %s: the answer: %w", c.fetcher.base, err)
	}
	if got.ID != sent.ID {
		return nil, 0, fmt.Errorf("adding to %s: the answer is about the payload %s, not about the one sent, %s", c.fetcher.base, got.ID, sent.ID)
	}
	best, err := c.policy.VerifyTransparent(t, c.now())
	if err != nil {
		return nil, 0, fmt.Errorf("adding to %s: the receipt: %w", c.fetcher.base, err)
	}
	return t, best.Newest.Index, nil
}

// PutAddendum stores bytes beside the log, and gives the digest by which
// statements name them.
func (c *Client) PutAddendum(ctx context.Context, r io.ReadSeeker) (statement.Digest, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, MaxAddendumBytes+1))
	if err != nil {
		return statement.Digest{}, fmt.Errorf("reading an addendum: %w", err)
	}
	if n > MaxAddendumBytes {
		return statement.Digest{}, errorf(TooLarge, "an addendum has at most %d bytes", MaxAddendumBytes)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return statement.Digest{}, fmt.Errorf("reading an addendum again: %w", err)
	}
	d := statement.Digest{SHA256: hex.EncodeToString(h.Sum(nil))}
	body, err := c.fetcher.post(ctx, "addenda?sha256="+d.SHA256, io.LimitReader(r, n), n, maxAnswerBytes)
	if err != nil {
		return statement.Digest{}, err
	}
	var stored storedAddendum
	if err := json.Unmarshal(body, &stored); err != nil || stored.Digest != d {
		return statement.Digest{}, fmt.Errorf("storing an addendum at %s: the log did not confirm its digest", c.fetcher.base)
	}
	return d, nil
}

// Addendum fetches the bytes with that digest, if they are at most maxBytes.
func (c *Client) Addendum(ctx context.Context, d statement.Digest, maxBytes int64) ([]byte, error) {
	if _, err := parseDigest(d.SHA256); err != nil {
		return nil, fmt.Errorf("fetching the addendum %q: %w", d.SHA256, err)
	}
	data, err := c.fetcher.get(ctx, addendumPath(d), maxBytes)
	if err != nil {
		return nil, err
	}
	if got := statement.DigestOf(data); got != d {
		return nil, fmt.Errorf("fetching the addendum %s from %s: the bytes served have the digest %s", d.SHA256, c.fetcher.base, got.SHA256)
	}
	return data, nil
}
