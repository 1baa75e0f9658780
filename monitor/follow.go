package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
)

// follow gets a checkpoint of the policy's quorum, holds it against the last
// one, and audits what is new.
func (m *Monitor) follow(ctx context.Context) error {
	if err := m.settle(); err != nil {
		return err
	}
	if m.forked != nil {
		return m.hasForked()
	}
	fetched, err := m.c.Log.Checkpoint(ctx)
	if err != nil {
		return m.stand(ctx, StaleLog, m.c.Now(), err)
	}
	staleErr := m.stand(ctx, StaleLog, fetched.Freshness, m.stale(fetched))
	return errors.Join(staleErr, m.stand(ctx, CannotFollow, m.c.Now(), m.advance(ctx, fetched)))
}

// stale tells whether clients of the policy refuse receipts under a checkpoint.
func (m *Monitor) stale(c *receipt.Checkpoint) error {
	maxAge := m.c.Policy.Receipt.MaxAge
	age := m.c.Now().Sub(c.Freshness)
	if maxAge == 0 || age <= maxAge {
		return nil
	}
	return fmt.Errorf("no quorum has cosigned the log since %s, and the policy allows %v", c.Freshness, maxAge)
}

// advance goes on to the trees that the log has shown: to readers, and to this
// monitor when it wrote.
func (m *Monitor) advance(ctx context.Context, fetched *receipt.Checkpoint) error {
	m.mu.Lock()
	shown := m.shown
	m.shown = nil
	m.mu.Unlock()
	for _, c := range []*receipt.Checkpoint{shown, fetched} {
		if c == nil {
			continue
		}
		if err := m.extend(ctx, c); err != nil {
			return err
		}
	}
	return m.auditEntries(ctx)
}

// extend makes a checkpoint the last one, if it is of the same history and of a
// later tree. An older view of that history, as a slow mirror serves it, changes
// nothing.
func (m *Monitor) extend(ctx context.Context, c *receipt.Checkpoint) error {
	if m.last != nil {
		var fork *log.ForkError
		err := m.c.Log.Consistency(ctx, m.last, c)
		if errors.As(err, &fork) {
			if err := m.keepFork(fork); err != nil {
				return errors.Join(fork, err)
			}
			return m.hasForked()
		}
		if err != nil {
			return err
		}
		if c.Size < m.last.Size || string(c.Note) == m.state.Checkpoint {
			return nil
		}
	}
	grew := c.Size > m.size()
	err := m.update(func(s *state) {
		s.Checkpoint = string(c.Note)
		m.last = c
	})
	if err == nil && grew {
		m.report(Event{Event: "following", Size: c.Size})
	}
	return err
}

// keepFork keeps both signed notes, and then raises the alert.
func (m *Monitor) keepFork(fork *log.ForkError) error {
	names := make([]string, 0, 2)
	for _, c := range []*receipt.Checkpoint{fork.Old, fork.New} {
		sum := sha256.Sum256(c.Note)
		name := filepath.Join(evidenceDir, fmt.Sprintf("checkpoint-%d-%s.note", c.Size, hex.EncodeToString(sum[:8])))
		if err := m.disk.write(name, c.Note); err != nil {
			return fmt.Errorf("keeping the evidence of a fork: %w", err)
		}
		names = append(names, name)
	}
	return m.update(func(s *state) {
		s.Fork = names
		m.forked = fork
		s.Alerts.raise(Alert{Code: Fork, Detail: fork.Error(), Evidence: names}, m.c.Now())
	})
}

func (m *Monitor) hasForked() error {
	return fmt.Errorf("%w; the signed checkpoints that prove it are %s and %s", m.forked, m.dir.path(m.state.Fork[0]), m.dir.path(m.state.Fork[1]))
}

// saveEvery bounds how many entries are audited again after a crash, and how
// many alerts wait to be told.
const saveEvery = 1024

func (m *Monitor) auditEntries(ctx context.Context) error {
	a := m.state.Audit
	if a.Next >= m.size() {
		return nil
	}
	for entry, err := range m.c.Log.Entries(ctx, m.last, a.Next) {
		if err != nil {
			return errors.Join(err, m.update(func(*state) {}))
		}
		m.mu.Lock()
		before := len(a.Releases)
		for _, f := range a.take(entry.Leaf, m.c.Policy, m.state.Rebuilds, m.c.Now()) {
			m.state.Alerts.raise(Alert{Code: f.code, Index: &f.index, Detail: f.detail}, m.c.Now())
		}
		m.unsaved = true
		isRelease := len(a.Releases) > before
		m.mu.Unlock()
		if isRelease {
			m.report(Event{Event: "release", Index: &entry.Index})
		}
		if a.Next%saveEvery == 0 {
			if err := m.update(func(*state) {}); err != nil {
				return err
			}
		}
	}
	err := m.update(func(*state) {})
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return err
}
