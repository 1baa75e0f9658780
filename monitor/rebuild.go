package monitor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// A Rebuilder builds a release again in an empty folder, which it may fill; the
// monitor removes it. A release that gives other bits, or none, is a result and
// not an error: an error says that this machine could not try, and the monitor
// will try again. It is called from as many goroutines as [Config.Parallel]
// says.
type Rebuilder interface {
	Rebuild(ctx context.Context, release *statement.Signed, addenda builder.Addenda, dir string) (*builder.Rebuilt, error)
}

// Addenda lets a rebuild read what lies beside a log.
type Addenda struct{ *log.Client }

// Addendum implements [builder.Addenda].
func (a Addenda) Addendum(ctx context.Context, d statement.Digest, maxBytes int64) ([]byte, error) {
	b, err := a.Client.Addendum(ctx, d, maxBytes)
	if log.IsNotFound(err) {
		return nil, missingError{d.SHA256}
	}
	return b, err
}

// missingError is a [builder.ErrUnavailable] that says it once.
type missingError struct{ digest string }

func (e missingError) Error() string { return "the log has no addendum " + e.digest }

func (e missingError) Unwrap() error { return builder.ErrUnavailable }

// maxTries bounds how often a release that could not be built is tried. With
// waits that double from a day on, the last is two months after the first.
const maxTries = 7

// maxRetryAfter keeps the longest wait a duration.
const maxRetryAfter = 365 * 24 * time.Hour

// due says what is to be done about a release now.
type due struct {
	id      string
	release release
	again   bool // it was tried before
}

// queue is what is due, releases that were never tried first, then the oldest.
func (m *Monitor) queue() []due {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []due
	for id, r := range m.state.Audit.Releases {
		mine := m.state.Rebuilds[id]
		if mine.wantsBuild(m.c.Now()) || mine.wantsSaying(m.c.Now()) || mine.wantsLook(m.size()) {
			all = append(all, due{id, *r, mine != nil})
		}
	}
	slices.SortFunc(all, func(a, b due) int {
		if a.again != b.again {
			if b.again {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.release.Index, b.release.Index)
	})
	return all
}

// wantsBuild: it was never built, or could not be and has waited.
func (r *rebuild) wantsBuild(now time.Time) bool {
	return r == nil || r.Outcome == statement.CouldNotBuild && r.Tries < maxTries && !now.Before(r.Retry)
}

// wantsSaying: the log does not have all of it yet.
func (r *rebuild) wantsSaying(now time.Time) bool {
	return r != nil && (r.Published == nil && !now.Before(r.Resend) || r.Outcome == statement.NotReproduced && !r.Explained)
}

// wantsLook: the log says that it has it, and it was not seen there.
func (r *rebuild) wantsLook(size int64) bool {
	return r != nil && r.Published != nil && !r.Confirmed && size > *r.Published
}

// rebuildAll does what is due. One release that cannot be tried does not keep
// the others waiting.
func (m *Monitor) rebuildAll(ctx context.Context) error {
	if err := m.settle(); err != nil {
		return err
	}
	m.mu.Lock()
	_, offline := m.state.Troubles[StaleLog]
	m.mu.Unlock()
	queue := m.queue()
	built, said := make([]error, len(queue)), make([]error, len(queue))
	var g errgroup.Group
	g.SetLimit(m.c.Parallel)
	for i, d := range queue {
		g.Go(func() error {
			if ctx.Err() != nil {
				built[i] = ctx.Err()
				return nil
			}
			about := func(err error) error {
				if err == nil {
					return nil
				}
				return fmt.Errorf("release %s (entry %d): %w", d.release.Version, d.release.Index, err)
			}
			if m.rebuildOf(d.id).wantsBuild(m.c.Now()) {
				built[i] = about(m.rebuild(ctx, d))
			}
			if m.rebuildOf(d.id) != nil {
				said[i] = about(m.say(ctx, d))
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in the two slices
	if failed := errors.Join(append(built, said...)...); offline && failed != nil {
		// One alert for one cause.
		return failed
	}
	return errors.Join(
		m.stand(ctx, CannotRebuild, m.c.Now(), errors.Join(built...)),
		m.stand(ctx, CannotPublish, m.c.Now(), errors.Join(said...)),
	)
}

// rebuildOf is a copy of the rebuild of a release, or nil.
func (m *Monitor) rebuildOf(id string) *rebuild {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.state.Rebuilds[id]
	if r == nil {
		return nil
	}
	c := *r
	return &c
}

// rebuild builds a release and has what is to be said of it on disk.
func (m *Monitor) rebuild(ctx context.Context, d due) error {
	signed, err := m.entry(ctx, d.release.Index)
	if err != nil {
		return err
	}
	if signed.ID.String() != d.id {
		return fmt.Errorf("entry %d is the statement %s, and was %s when it was audited", d.release.Index, signed.ID, d.id)
	}
	m.report(Event{Event: "rebuilding", Index: &d.release.Index, Version: d.release.Version})
	dir, err := os.MkdirTemp(string(m.dir), rebuildPrefix)
	if err != nil {
		return err
	}
	defer removeAll(dir)
	got, err := m.build(ctx, signed, dir)
	if err != nil {
		return err
	}
	next := m.rebuildOf(d.id)
	if next == nil || got.Outcome != next.Outcome {
		if next, err = m.write(got, signed, d.release.Index); err != nil {
			return err
		}
	}
	if err := m.update(func(s *state) { m.conclude(s, d, next, got) }); err != nil {
		return err
	}
	m.report(Event{Event: "rebuilt", Index: &d.release.Index, Version: d.release.Version, Outcome: string(got.Outcome), Detail: got.Summary()})
	return nil
}

// write has on disk what is to be said of a rebuild, and what proves it.
func (m *Monitor) write(got *builder.Rebuilt, release *statement.Signed, index int64) (*rebuild, error) {
	if got.Explanation != nil {
		if err := m.disk.write(explanationName(index), got.Explanation); err != nil {
			return nil, fmt.Errorf("keeping the explanation: %w", err)
		}
	}
	r := &rebuild{Outcome: got.Outcome}
	payload, err := statementOf(got, release, index)
	if err != nil {
		// A release may be so large that what is said of it is too large. That
		// must not keep anybody from hearing of a difference.
		r.Unsaid = plain(err.Error())
		return r, nil
	}
	r.Payload, err = m.keep(payload)
	return r, err
}

// conclude takes the result of a rebuild into the state. One that again gave
// nothing changes nothing but the time of the next try: what was said stands,
// whatever the reason is by now. An alert does not wait for the log to take the
// statement: a log that refuses it is the one that has something to hide.
func (m *Monitor) conclude(s *state, d due, next *rebuild, got *builder.Rebuilt) {
	if next.Outcome == statement.CouldNotBuild {
		next.Retry = m.c.Now().UTC().Truncate(time.Second).Add(m.c.RetryAfter << next.Tries)
		next.Tries++
	}
	s.Rebuilds[d.id] = next
	if next.Outcome == statement.NotReproduced {
		s.Alerts.raise(Alert{Code: NotReproduced, Index: &d.release.Index, Evidence: []string{explanationName(d.release.Index)},
			Detail: fmt.Sprintf("release %s is not what its source gives: %s", d.release.Version, got.Summary())}, m.c.Now())
	}
	// The audit goes on during a rebuild, so that the words are read anew.
	if r := s.Audit.Releases[d.id]; r != nil {
		for _, f := range disagreements(r, next.Outcome) {
			s.Alerts.raise(Alert{Code: f.code, Index: &f.index, Detail: f.detail}, m.c.Now())
		}
	}
}

// build has a release rebuilt, for as long as that may take.
func (m *Monitor) build(ctx context.Context, signed *statement.Signed, dir string) (*builder.Rebuilt, error) {
	bounded, cancel := context.WithTimeout(ctx, m.c.RebuildTimeout)
	defer cancel()
	got, err := m.c.Rebuilder.Rebuild(bounded, signed, Addenda{m.c.Log}, dir)
	switch {
	case err == nil && got == nil:
		return nil, errors.New("the rebuilder gave no result")
	case err == nil:
		return got, nil
	case ctx.Err() == nil && bounded.Err() != nil:
		return &builder.Rebuilt{Outcome: statement.CouldNotBuild, Reason: fmt.Sprintf("the build did not end within %v", m.c.RebuildTimeout)}, nil
	}
	return nil, err
}

func statementOf(got *builder.Rebuilt, release *statement.Signed, index int64) ([]byte, error) {
	said, err := got.Statement(release, index)
	if err != nil {
		return nil, err
	}
	return said.Payload()
}

// keep writes what is said into the folder of statements, and gives its name
// there: its SHA-256.
func (m *Monitor) keep(b []byte) (string, error) {
	name := statement.DigestOf(b).SHA256
	if err := m.disk.write(filepath.Join(statementsDir, name+".json"), b); err != nil {
		return "", fmt.Errorf("keeping a statement: %w", err)
	}
	return name, nil
}

// kept reads it again.
func (m *Monitor) kept(name string) ([]byte, error) {
	path := m.dir.path(filepath.Join(statementsDir, name+".json"))
	b, err := durable.ReadFile(path, statement.MaxLeafBytes)
	if err != nil {
		return nil, fmt.Errorf("reading a statement again: %w", err)
	}
	if statement.DigestOf(b).SHA256 != name {
		return nil, fmt.Errorf("reading a statement again: %s is not what was written", path)
	}
	return b, nil
}

func explanationName(index int64) string {
	return filepath.Join(evidenceDir, fmt.Sprintf("not-reproduced-%d.json", index))
}

// entry reads an entry of the last tree.
func (m *Monitor) entry(ctx context.Context, index int64) (*statement.Signed, error) {
	leaf, err := m.leaf(ctx, index)
	if err != nil {
		return nil, err
	}
	return statement.Parse(leaf)
}

func (m *Monitor) leaf(ctx context.Context, index int64) ([]byte, error) {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if last == nil || index >= last.Size {
		return nil, fmt.Errorf("there is no entry %d yet", index)
	}
	for entry, err := range m.c.Log.Entries(ctx, last, index) {
		if err != nil {
			return nil, err
		}
		return bytes.Clone(entry.Leaf), nil
	}
	return nil, fmt.Errorf("there is no entry %d in a tree of size %d", index, last.Size)
}
