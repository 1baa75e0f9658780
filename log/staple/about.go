package staple

import (
	"slices"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

// about is what is said about one release. Nothing in it is believed: whether a
// rebuilder or a channel counts is for the client's policy to say.
type about struct {
	release *item
	product string
	channel string // the name, or empty for those that ever listed the release

	rebuilds    []*item // of each signer the last
	current     *item   // the channel statement with the largest sequence
	withdrawals []*item
}

func newAbout(release *item, channel string) *about {
	return &about{release: release, product: release.signed.Statement.Product(), channel: channel}
}

// take keeps a statement if it is about the release, and reports whether it is.
// Statements come in the order of the log, those from files first.
func (a *about) take(it *item) bool {
	if it.signed.Statement.Product() != a.product {
		return false
	}
	_, isRebuild := it.signed.Rebuild()
	for _, known := range a.all() {
		// Two rebuilders may say the same in the same words, and each counts.
		if known.signed.ID == it.signed.ID && (!isRebuild || known.signed.Hint == it.signed.Hint) {
			if it.index >= 0 {
				known.at(it)
			}
			return true
		}
	}
	switch p := it.signed.Statement.Predicate.(type) {
	case *statement.Rebuild:
		if p.Release.Digest != a.release.signed.ID.Digest() {
			return false
		}
		// A rebuilder's last word replaces the former. The hint is unproven, but
		// the log has checked it, and one that did not could as well hide entries.
		a.rebuilds = slices.DeleteFunc(a.rebuilds, func(old *item) bool {
			return old.path == "" && old.signed.Hint == it.signed.Hint
		})
		a.rebuilds = last(append(a.rebuilds, it), evidence.MaxRebuilds)
	case *statement.Channel:
		if !a.follows(p, it.signed.Statement) {
			return false
		}
		if a.current == nil || p.Sequence > sequence(a.current) {
			a.current = it
		}
	case *statement.Withdrawal:
		if !a.withdraws(p, it.signed.Statement) {
			return false
		}
		a.withdrawals = last(append(a.withdrawals, it), evidence.MaxWithdrawals)
	default:
		return false
	}
	return true
}

func (a *about) all() []*item {
	items := slices.Concat(a.rebuilds, a.withdrawals)
	if a.current != nil {
		items = append(items, a.current)
	}
	return items
}

func sequence(it *item) int64 {
	c, _ := it.signed.Statement.Channel()
	return c.Sequence
}

// follows reports whether a channel statement is one of the channel's. Without a
// name, the first that lists the release gives it.
func (a *about) follows(c *statement.Channel, s *statement.Statement) bool {
	if a.channel != "" {
		return c.Channel == a.channel
	}
	if a.current != nil {
		current, _ := a.current.signed.Statement.Channel()
		if c.Channel == current.Channel {
			return true
		}
	}
	return names(s, a.release.signed.ID.Digest())
}

// withdraws reports whether a withdrawal, or a reinstatement, touches the
// release: its statement, one of its artefacts, or a register that it measures.
func (a *about) withdraws(w *statement.Withdrawal, s *statement.Statement) bool {
	if names(s, a.release.signed.ID.Digest()) {
		return true
	}
	for _, artefact := range a.release.signed.Statement.Subjects {
		if names(s, artefact.Digest) {
			return true
		}
	}
	r, _ := a.release.signed.Statement.Release()
	for _, withdrawn := range w.Registers {
		for _, m := range r.Measurements {
			if m.Platform == withdrawn.Platform && slices.Contains(m.Registers[withdrawn.Register].OneOf, withdrawn.Value) {
				return true
			}
		}
	}
	return false
}

func names(s *statement.Statement, d statement.Digest) bool {
	return slices.ContainsFunc(s.Subjects, func(subject statement.Subject) bool { return subject.Digest == d })
}

// last keeps the last n.
func last(items []*item, n int) []*item {
	return items[max(0, len(items)-n):]
}
