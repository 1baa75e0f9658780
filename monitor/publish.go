package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// say brings what is to be said of a release into the log: it signs, stores the
// explanation, adds, and sees whether the log has what it took. Each of these
// steps is on disk before the next, so that a monitor that was killed sends the
// same bytes again.
func (m *Monitor) say(ctx context.Context, d due) error {
	r := m.rebuildOf(d.id)
	if r.Payload == "" {
		return fmt.Errorf("its outcome %s cannot be put into words: %s", r.Outcome, r.Unsaid)
	}
	var unexplained error
	if r.Outcome == statement.NotReproduced && !r.Explained {
		// A log that does not store the explanation may still take the statement.
		unexplained = m.explain(ctx, d)
	}
	if r.Leaf == "" {
		if err := m.sign(d, r.Payload); err != nil {
			return err
		}
	}
	if r = m.rebuildOf(d.id); r.Published == nil && !m.c.Now().Before(r.Resend) {
		if err := m.add(ctx, d, r); err != nil {
			return errors.Join(err, unexplained)
		}
	}
	if r = m.rebuildOf(d.id); r.wantsLook(m.seenSize()) {
		return errors.Join(m.look(ctx, d, r), unexplained)
	}
	return unexplained
}

func (m *Monitor) seenSize() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size()
}

// change updates the rebuild of a release.
func (m *Monitor) change(id string, change func(*rebuild)) error {
	return m.update(func(s *state) { change(s.Rebuilds[id]) })
}

func (m *Monitor) sign(d due, payload string) error {
	words, err := m.kept(payload)
	if err != nil {
		return err
	}
	leaf, err := statement.Sign(words, m.c.Signer)
	if err != nil {
		return err
	}
	name, err := m.keep(leaf)
	if err != nil {
		return err
	}
	return m.change(d.id, func(r *rebuild) { r.Leaf = name })
}

// explain puts what differs beside the log, for those who read the statement
// that names it by digest.
func (m *Monitor) explain(ctx context.Context, d due) error {
	f, err := os.Open(m.dir.path(explanationName(d.release.Index)))
	if err != nil {
		return fmt.Errorf("storing the explanation: %w", err)
	}
	defer f.Close()
	if _, err := m.c.Log.PutAddendum(ctx, f); err != nil {
		return fmt.Errorf("storing the explanation beside the log: %w", err)
	}
	return m.change(d.id, func(r *rebuild) { r.Explained = true })
}

func (m *Monitor) add(ctx context.Context, d due, r *rebuild) error {
	leaf, err := m.kept(r.Leaf)
	if err != nil {
		return err
	}
	t, index, err := m.c.Log.Add(ctx, leaf)
	answer := new(log.Error)
	switch {
	case errors.As(err, &answer) && answer.Code == log.NoReceipt:
		// It is said to be in. Its receipt is for those who show it to clients, and
		// whether it is true will be seen.
		index = answer.Index
	case errors.As(err, &answer) && answer.Code == log.NotAdmitted:
		return fmt.Errorf("publishing the rebuild statement: %w; have the log's operator admit this monitor's key as a rebuilder of %s", err, m.c.Policy.Product)
	case err != nil:
		return fmt.Errorf("publishing the rebuild statement: %w", err)
	default:
		if err := m.isMine(t.Leaf, leaf, index); err != nil {
			return err
		}
		best, err := m.c.Log.Policy().VerifyTransparent(t, m.c.Now())
		if err != nil {
			return fmt.Errorf("publishing the rebuild statement: the receipt: %w", err)
		}
		// What the log shows to those who write has to be what it shows to all.
		m.mu.Lock()
		m.shown = &best.Newest.Checkpoint
		m.mu.Unlock()
	}
	if err := m.change(d.id, func(r *rebuild) { r.Published = &index }); err != nil {
		return err
	}
	m.report(Event{Event: "published", Index: &index, Version: d.release.Version, Outcome: string(r.Outcome)})
	return nil
}

// isMine checks that an entry is this monitor's statement: its words, and signed
// by its key. A log may keep one entry for each payload, and another rebuilder
// may have said the same.
func (m *Monitor) isMine(leaf, sent []byte, index int64) error {
	want, err := statement.Parse(sent)
	if err != nil {
		return err
	}
	got, err := statement.Parse(leaf)
	if err != nil || got.ID != want.ID {
		return errNotThere
	}
	if _, err := got.VerifyAny([]*statement.PublicKey{m.key}); err != nil {
		return fmt.Errorf("the log answers with entry %d, which says the same by another key; this monitor's own word is not in the log", index)
	}
	return nil
}

var errNotThere = errors.New("the entry is another")

// look sees whether the log has the statement where it said.
func (m *Monitor) look(ctx context.Context, d due, r *rebuild) error {
	sent, err := m.kept(r.Leaf)
	if err != nil {
		return err
	}
	index := *r.Published
	leaf, err := m.leaf(ctx, index)
	if err != nil {
		return fmt.Errorf("looking for the rebuild statement: %w", err)
	}
	err = m.isMine(leaf, sent, index)
	switch {
	case err == nil:
		return m.change(d.id, func(r *rebuild) { r.Confirmed = true })
	case !errors.Is(err, errNotThere):
		return errors.Join(err, m.change(d.id, func(r *rebuild) { r.Published = nil }))
	}
	err = fmt.Errorf("the log said that it has the rebuild statement of release %s as entry %d, and another is there", d.release.Version, index)
	return errors.Join(err, m.update(func(s *state) {
		r := s.Rebuilds[d.id]
		if r.Lost == 0 {
			s.Alerts.raise(Alert{Code: StatementLost, Index: &index, Detail: err.Error()}, m.c.Now())
		} else {
			// A log that loses it again and again is not asked at every step.
			r.Resend = m.c.Now().Add(m.c.RetryAfter)
		}
		r.Lost++
		r.Published = nil
	}))
}
