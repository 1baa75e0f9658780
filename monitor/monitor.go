package monitor

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/policies"
)

// Config is what a monitor is. Report, Now and Logger may be nil.
type Config struct {
	// Dir holds what the monitor remembers; one process holds it.
	Dir string
	// Log is the one to follow. Its policy is one of Policy's.
	Log *log.Client
	// Policy names the product and the keys. Nothing else of it is applied: a
	// monitor judges a log, not a node.
	Policy *policies.Policy
	// Signer signs the rebuild statements.
	Signer crypto.Signer
	// Rebuilder builds a release again.
	Rebuilder Rebuilder

	// Report hears what the monitor does, as it does it.
	Report func(Event)
	Now    func() time.Time
	Logger *slog.Logger
}

// An Event is something that the monitor did or saw, for those who watch it.
type Event struct {
	// Event is "following" (a new checkpoint), "release" (an entry that will be
	// rebuilt), "rebuilding", "rebuilt", "published" or "alert".
	Event   string `json:"event"`
	Index   *int64 `json:"index,omitempty"`
	Size    int64  `json:"size,omitempty"` // of the tree, with "following"
	Version string `json:"version,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Alert   *Alert `json:"alert,omitempty"`
}

// A Monitor follows one log for one product.
type Monitor struct {
	c      Config
	state  *state
	unlock func() error
	// staleAlerted keeps a log that stands still from being alerted at each step.
	staleAlerted bool
}

const evidenceDir = "evidence"

// Open opens the monitor in c.Dir, or begins one there.
func Open(c Config) (*Monitor, error) {
	switch {
	case c.Log == nil, c.Policy == nil, c.Signer == nil, c.Rebuilder == nil:
		return nil, errors.New("opening the monitor: it needs a log, a policy, a key and something that rebuilds")
	case c.Dir == "":
		return nil, errors.New("opening the monitor: no folder is given")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	if err := durable.MkdirAll(filepath.Join(c.Dir, evidenceDir), 0o755); err != nil {
		return nil, fmt.Errorf("opening the monitor: %w", err)
	}
	unlock, err := durable.Lock(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the monitor: %w", err)
	}
	if err := durable.Sweep(c.Dir); err != nil {
		unlock()
		return nil, fmt.Errorf("opening the monitor: %w", err)
	}
	s, err := loadState(c.Dir, c.Log.Policy().Origin())
	if err != nil {
		unlock()
		return nil, err
	}
	return &Monitor{c: c, state: s, unlock: unlock}, nil
}

// Close lets another process have the folder.
func (m *Monitor) Close() error { return m.unlock() }

// Run takes a step, and another each interval, until ctx ends. A step that
// fails is logged and tried again: a monitor does not stop watching because the
// log is down. A fork ends it: there is nothing left to follow.
func (m *Monitor) Run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := m.Step(ctx)
		var fork *log.ForkError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fork):
			return err
		case err != nil:
			m.c.Logger.Warn("a step failed and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step follows the log to its newest checkpoint and rebuilds what is new. It
// returns a *log.ForkError if the log has two histories.
func (m *Monitor) Step(ctx context.Context) error {
	checkpoint, err := m.follow(ctx)
	if err != nil {
		return err
	}
	if err := m.auditEntries(ctx, checkpoint); err != nil {
		return err
	}
	return m.rebuildAll(ctx, checkpoint)
}

// follow gets a checkpoint of the policy's quorum and holds it against the last
// one.
func (m *Monitor) follow(ctx context.Context) (*receipt.Checkpoint, error) {
	checkpoint, err := m.c.Log.Checkpoint(ctx)
	if err != nil {
		return nil, m.stale(err)
	}
	if m.state.Checkpoint != "" {
		last, err := m.c.Log.Policy().OpenUnwitnessed([]byte(m.state.Checkpoint))
		if err != nil {
			return nil, fmt.Errorf("the remembered checkpoint does not verify under this policy: %w; the log's key changed, or the state is not this log's", err)
		}
		var fork *log.ForkError
		if err := m.c.Log.Consistency(ctx, last, checkpoint); errors.As(err, &fork) {
			return nil, errors.Join(err, m.keepFork(fork))
		} else if err != nil {
			return nil, err
		}
		if last.Size > checkpoint.Size {
			// An older view of the same history, as a slow mirror serves it. What
			// was audited stays audited, and what waits for its rebuild is within
			// the larger tree.
			return last, m.checkFresh(checkpoint)
		}
	}
	if err := m.checkFresh(checkpoint); err != nil {
		return nil, err
	}
	if string(checkpoint.Note) == m.state.Checkpoint {
		return checkpoint, nil
	}
	m.state.Checkpoint = string(checkpoint.Note)
	if checkpoint.Size > m.state.Next {
		m.c.Report(Event{Event: "following", Size: checkpoint.Size})
	}
	return checkpoint, m.state.save(m.c.Dir)
}

// stale tells people when the log cannot be followed for longer than the policy
// lets a receipt be old: from then on, clients refuse.
func (m *Monitor) stale(cause error) error {
	if m.state.Checkpoint == "" {
		return cause
	}
	last, err := m.c.Log.Policy().OpenCheckpoint([]byte(m.state.Checkpoint), m.c.Now())
	if err != nil {
		return errors.Join(cause, err)
	}
	return errors.Join(cause, m.checkFresh(last))
}

func (m *Monitor) checkFresh(checkpoint *receipt.Checkpoint) error {
	maxAge := m.c.Policy.Receipt.MaxAge
	age := m.c.Now().Sub(checkpoint.Freshness)
	if maxAge == 0 || age <= maxAge {
		m.staleAlerted = false
		return nil
	}
	if m.staleAlerted {
		return nil
	}
	m.staleAlerted = true
	return m.alert(Alert{Code: StaleLog, Detail: fmt.Sprintf("no quorum has cosigned the log for %v, and the policy allows %v; clients refuse its receipts", age.Round(time.Second), maxAge)})
}

// keepFork writes both signed notes and raises the alert, once for each pair.
func (m *Monitor) keepFork(fork *log.ForkError) error {
	var names []string
	isNew := false
	for _, c := range []*receipt.Checkpoint{fork.Old, fork.New} {
		sum := sha256.Sum256(c.Note)
		name := filepath.Join(evidenceDir, fmt.Sprintf("checkpoint-%d-%s.note", c.Size, hex.EncodeToString(sum[:8])))
		names = append(names, name)
		path := filepath.Join(m.c.Dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			isNew = true
		}
		if err := durable.WriteFile(path, c.Note, 0o644); err != nil {
			return err
		}
	}
	if !isNew {
		return nil
	}
	return m.alert(Alert{Code: Fork, Detail: fork.Error(), Evidence: names})
}

func (m *Monitor) alert(a Alert) error {
	a.Time = m.c.Now().UTC().Truncate(time.Second)
	if err := appendAlert(m.c.Dir, a); err != nil {
		return err
	}
	m.c.Report(Event{Event: "alert", Alert: &a, Index: a.Index, Detail: a.Detail})
	return nil
}

// saveEvery bounds how many entries are audited again after a crash.
const saveEvery = 1024

func (m *Monitor) auditEntries(ctx context.Context, checkpoint *receipt.Checkpoint) error {
	if m.state.Next >= checkpoint.Size {
		return nil
	}
	for entry, err := range m.c.Log.Entries(ctx, checkpoint, m.state.Next) {
		if err != nil {
			return errors.Join(err, m.state.save(m.c.Dir))
		}
		before := len(m.state.Releases)
		for _, f := range m.state.audit(entry.Index, entry.Leaf, m.c.Policy) {
			if err := m.alert(Alert{Code: f.code, Index: &entry.Index, Detail: f.detail}); err != nil {
				return err
			}
		}
		m.state.Next = entry.Index + 1
		if len(m.state.Releases) > before {
			m.c.Report(Event{Event: "release", Index: &entry.Index})
		}
		if m.state.Next%saveEvery == 0 {
			if err := m.state.save(m.c.Dir); err != nil {
				return err
			}
		}
	}
	return m.state.save(m.c.Dir)
}
