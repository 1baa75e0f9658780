package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// A Rebuilder builds a release again in an empty folder, which it may fill; the
// monitor removes it. A release that gives other bits, or none, is a result and
// not an error: an error says that this machine could not try, and the monitor
// will try again.
type Rebuilder interface {
	Rebuild(ctx context.Context, release *statement.Signed, addenda builder.Addenda, dir string) (*builder.Rebuilt, error)
}

// Addenda lets a rebuild read what lies beside a log.
type Addenda struct{ *log.Client }

// Addendum implements [builder.Addenda].
func (a Addenda) Addendum(ctx context.Context, d statement.Digest, maxBytes int64) ([]byte, error) {
	b, err := a.Client.Addendum(ctx, d, maxBytes)
	if log.IsNotFound(err) {
		return nil, fmt.Errorf("%w: the log has no addendum %s", builder.ErrUnavailable, d.SHA256)
	}
	return b, err
}

// rebuildAll rebuilds and publishes what waits, oldest first. One release that
// cannot be tried does not keep the others waiting.
func (m *Monitor) rebuildAll(ctx context.Context, checkpoint *receipt.Checkpoint) error {
	type waiting struct {
		id string
		*release
	}
	var queue []waiting
	for id, r := range m.state.Releases {
		if r.Published == nil {
			queue = append(queue, waiting{id, r})
		}
	}
	slices.SortFunc(queue, func(a, b waiting) int { return cmp.Compare(a.Index, b.Index) })
	var failed error
	for _, w := range queue {
		if err := m.rebuildOne(ctx, checkpoint, w.release); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = errors.Join(failed, fmt.Errorf("release %s (entry %d): %w", w.Version, w.Index, err))
		}
	}
	return failed
}

func (m *Monitor) rebuildOne(ctx context.Context, checkpoint *receipt.Checkpoint, r *release) error {
	if r.Leaf == nil {
		if err := m.rebuild(ctx, checkpoint, r); err != nil {
			return err
		}
	}
	if r.Outcome == statement.NotReproduced {
		if err := m.storeExplanation(ctx, r); err != nil {
			return err
		}
	}
	_, index, err := m.c.Log.Add(ctx, r.Leaf)
	var answer *log.Error
	if errors.As(err, &answer) && answer.Code == log.NoReceipt {
		// It is in. Its receipt is for those who show it to clients.
		index, err = answer.Index, nil
	}
	if err != nil {
		return fmt.Errorf("publishing the rebuild statement: %w", err)
	}
	r.Published = &index
	if err := m.state.save(m.c.Dir); err != nil {
		return err
	}
	m.c.Report(Event{Event: "published", Index: &index, Version: r.Version, Outcome: string(r.Outcome)})
	return nil
}

// rebuild builds a release and leaves the signed statement in the state.
func (m *Monitor) rebuild(ctx context.Context, checkpoint *receipt.Checkpoint, r *release) error {
	signed, err := m.entry(ctx, checkpoint, r.Index)
	if err != nil {
		return err
	}
	m.c.Report(Event{Event: "rebuilding", Index: &r.Index, Version: r.Version})
	dir, err := os.MkdirTemp(m.c.Dir, "rebuild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	got, err := m.c.Rebuilder.Rebuild(ctx, signed, Addenda{m.c.Log}, dir)
	if err != nil {
		return err
	}
	if got.Explanation != nil {
		if err := durable.WriteFile(filepath.Join(m.c.Dir, explanationName(r)), got.Explanation, 0o644); err != nil {
			return err
		}
	}
	said, err := got.Statement(signed, r.Index)
	if err != nil {
		return err
	}
	payload, err := said.Payload()
	if err != nil {
		return err
	}
	leaf, err := statement.Sign(payload, m.c.Signer)
	if err != nil {
		return err
	}
	// The alert does not wait for the log to take the statement: a log that
	// refuses it is the one that has something to hide.
	if got.Outcome == statement.NotReproduced {
		detail := fmt.Sprintf("release %s is not what its source gives: %s", r.Version, got.Summary())
		if err := m.alert(Alert{Code: NotReproduced, Index: &r.Index, Detail: detail, Evidence: []string{explanationName(r)}}); err != nil {
			return err
		}
	}
	r.Outcome, r.Leaf = got.Outcome, leaf
	if err := m.state.save(m.c.Dir); err != nil {
		return err
	}
	m.c.Report(Event{Event: "rebuilt", Index: &r.Index, Version: r.Version, Outcome: string(r.Outcome), Detail: got.Summary()})
	return nil
}

func explanationName(r *release) string {
	return filepath.Join(evidenceDir, fmt.Sprintf("not-reproduced-%d.json", r.Index))
}

// storeExplanation puts what differs beside the log, for those who read the
// statement that names it by digest.
func (m *Monitor) storeExplanation(ctx context.Context, r *release) error {
	f, err := os.Open(filepath.Join(m.c.Dir, explanationName(r)))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := m.c.Log.PutAddendum(ctx, f); err != nil {
		return fmt.Errorf("storing the explanation: %w", err)
	}
	return nil
}

func (m *Monitor) entry(ctx context.Context, checkpoint *receipt.Checkpoint, index int64) (*statement.Signed, error) {
	for entry, err := range m.c.Log.Entries(ctx, checkpoint, index) {
		if err != nil {
			return nil, err
		}
		return statement.Parse(entry.Leaf)
	}
	return nil, fmt.Errorf("there is no entry %d in a tree of size %d", index, checkpoint.Size)
}
