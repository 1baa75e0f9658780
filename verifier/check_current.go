package verifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

func (a *appraisal) channelKey() string { return a.policy.Product + "/" + a.policy.Channel.Name }

// judgeChannel demands a fresh word that this release is still current. The
// channel can freeze for as long as the policy's age allows, and never
// introduce: what it lists has to be logged by a publisher all the same.
func judgeChannel(_ context.Context, a *appraisal) finding {
	want := a.policy.Channel
	if want.Unchecked != "" {
		return unchecked(want.Unchecked)
	}
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if len(a.doc.Channel) == 0 {
		return fail("current/channel-missing", "the evidence comes without a channel statement, and the policy demands one of %q", want.Name)
	}
	t, signed, err := transparent(a.doc.Channel)
	if err != nil {
		return fail("current/channel-malformed", "the channel statement: %v", err)
	}
	c, ok := signed.Channel()
	if !ok {
		return fail("statement/type", "what came as the channel statement is a statement of another type")
	}
	name, code, err := signedBy(signed, want.Keys)
	if err != nil {
		return fail(code("current/channel-signer", "current/channel-signature"), "the channel statement: %v", err)
	}
	if c.Product != a.policy.Product || c.Channel != want.Name {
		return fail("current/channel-name", "the channel statement is of %s, channel %q; the policy demands %s, %q", c.Product, c.Channel, a.policy.Product, want.Name)
	}
	if err := a.logged(t); err != nil {
		return fail("current/channel-receipt", "the channel statement is not shown to be logged: %v", err)
	}

	// From here on it is the channel's word, to be remembered whatever the
	// verdict: an older one may not come after it.
	seen := a.memory.Channels[a.channelKey()]
	id := signed.ID.String()
	switch {
	case c.Sequence < seen.Sequence:
		return fail("current/channel-rollback", "the channel statement has sequence %d; this client has seen %d", c.Sequence, seen.Sequence)
	case c.Sequence == seen.Sequence && id != seen.Identity:
		return fail("current/channel-fork", "two channel statements have sequence %d: %s and %s", c.Sequence, seen.Identity, id)
	}
	age := a.now.Sub(c.IssuedAt)
	if age < -receipt.Tolerance {
		return fail("current/channel-future", "the channel statement was issued at %s, which is after now", c.IssuedAt.UTC().Format(time.RFC3339))
	}
	a.channel = &ChannelSeen{Sequence: c.Sequence, Identity: id}
	switch {
	case !a.now.Before(c.NotAfter):
		return fail("current/channel-expired", "the channel statement is good until %s", c.NotAfter.UTC().Format(time.RFC3339))
	case age > want.MaxAge:
		return fail("current/channel-stale", "the channel statement was issued %s ago; the policy allows %s", round(age), round(want.MaxAge))
	}
	if !slices.ContainsFunc(signed.Statement.Subjects, func(s statement.Subject) bool { return s.Digest == rel.signed.ID.Digest() }) {
		return fail("current/channel-not-listed", "%s %s is not among the %d releases that %q lists (sequence %d)", rel.release.Product, rel.release.Version, len(signed.Statement.Subjects), want.Name, c.Sequence)
	}
	return pass("%q lists it, sequence %d, signed by %s %s ago", want.Name, c.Sequence, name, round(max(age, 0)))
}

// judgeEpoch keeps out releases with holes that were closed since.
func judgeEpoch(_ context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	got := rel.release.SecurityEpoch
	if got < a.policy.MinimumEpoch || got < 1 {
		return fail("current/epoch", "the release has security epoch %d; the policy demands %d", got, a.policy.MinimumEpoch)
	}
	if seen := a.memory.Epochs[a.policy.Product]; got < seen {
		return fail("current/epoch", "the release has security epoch %d; this client has accepted one of %d", got, seen)
	}
	return pass("%d, at least %d is demanded", got, max(a.policy.MinimumEpoch, a.memory.Epochs[a.policy.Product]))
}

// withdrawal is a withdrawal or a reinstatement, signed by a withdrawer.
type withdrawal struct {
	*statement.Withdrawal
	subjects []statement.Subject
	leaf     []byte
	by       string
}

// judgeWithdrawals looks whether anything that was ever seen withdraws this
// release. A withdrawal counts by its signature alone, so that nobody can keep
// one from counting by keeping its receipt back; taking one back needs the log.
func judgeWithdrawals(_ context.Context, a *appraisal) finding {
	if why := a.policy.Withdrawers.Unchecked; why != "" {
		return unchecked(why)
	}
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if len(a.policy.Withdrawers.Keys) == 0 {
		return fail("policy/malformed", "the policy says nothing about who may withdraw a release")
	}
	var all []withdrawal
	strangers := 0
	for i, raw := range a.doc.Withdrawals {
		w, err := a.readWithdrawal(raw)
		switch {
		case errors.Is(err, errStranger):
			strangers++
			continue
		case err != nil:
			return fail("current/withdrawal-malformed", "withdrawal %d of the evidence: %v", i+1, err)
		}
		if w.Product == a.policy.Product {
			all = append(all, *w)
			if !w.Reinstates {
				a.withdrawn = append(a.withdrawn, w.leaf)
			}
		}
	}
	for _, leaf := range a.memory.Withdrawals[a.policy.Product] {
		s, err := statement.Parse(leaf)
		if err != nil {
			return fail("current/withdrawal-malformed", "a withdrawal that this client remembers: %v", err)
		}
		if w, err := a.withdrawalOf(s); err == nil && !w.Reinstates {
			all = append(all, *w)
		}
	}
	for _, w := range all {
		if w.Reinstates || a.reinstated(w, all) {
			continue
		}
		if what := a.hit(w, rel); what != "" {
			return fail("current/withdrawn", "%s was withdrawn by %s, since %s: %s", what, w.by, w.Since.UTC().Format(time.RFC3339), w.Reason)
		}
	}
	saw := fmt.Sprintf("none of %d known to this client is about it", len(all))
	if strangers > 0 {
		saw += fmt.Sprintf(" (%d more are not by a withdrawer of the policy)", strangers)
	}
	return pass("%s", saw)
}

var errStranger = errors.New("signed by nobody whom the policy lets withdraw")

func (a *appraisal) readWithdrawal(raw json.RawMessage) (*withdrawal, error) {
	t, signed, err := transparent(raw)
	if err != nil {
		return nil, err
	}
	w, err := a.withdrawalOf(signed)
	if err != nil {
		return nil, err
	}
	if w.Reinstates {
		if err := a.logged(t); err != nil {
			return nil, fmt.Errorf("a reinstatement has to be logged: %w", err)
		}
	}
	return w, nil
}

func (a *appraisal) withdrawalOf(s *statement.Signed) (*withdrawal, error) {
	w, ok := s.Withdrawal()
	if !ok {
		return nil, errors.New("it is a statement of another type")
	}
	key, err := s.VerifyAny(policies.PublicKeys(a.policy.Withdrawers.Keys))
	if errors.Is(err, statement.ErrUnknownKey) {
		return nil, errStranger
	}
	if err != nil {
		return nil, err
	}
	return &withdrawal{w, s.Statement.Subjects, s.Leaf, policies.KeyNamed(a.policy.Withdrawers.Keys, key)}, nil
}

// reinstated reports whether a later statement takes exactly this withdrawal
// back. In doubt (the same instant) the withdrawal stands, and a reinstatement
// that is dated ahead takes nothing back yet: it would outdate withdrawals that
// nobody has written.
func (a *appraisal) reinstated(w withdrawal, all []withdrawal) bool {
	return slices.ContainsFunc(all, func(r withdrawal) bool {
		return r.Reinstates && r.Since.After(w.Since) && !r.Since.After(a.now.Add(receipt.Tolerance)) &&
			sameSet(digests(r.subjects), digests(w.subjects)) && sameSet(values(r.Registers), values(w.Registers))
	})
}

func digests(subjects []statement.Subject) []string {
	var out []string
	for _, s := range subjects {
		out = append(out, s.Digest.SHA256)
	}
	return out
}

func values(registers []statement.RegisterValue) []string {
	var out []string
	for _, r := range registers {
		out = append(out, strings.Join([]string{r.Platform, r.Register, r.Value}, " "))
	}
	return out
}

func sameSet(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// hit says what of this release or machine a withdrawal is about.
func (a *appraisal) hit(w withdrawal, rel *signedRelease) string {
	for _, s := range w.subjects {
		if s.Digest == rel.signed.ID.Digest() {
			return "the release"
		}
		for _, artefact := range rel.signed.Statement.Subjects {
			if s.Digest == artefact.Digest {
				return "the artefact " + artefact.Name
			}
		}
	}
	for _, r := range w.Registers {
		if a.claims != nil && r.Platform == a.claims.Platform && a.claims.Registers[r.Register] == r.Value && r.Value != "" {
			return "the value of " + r.Register
		}
	}
	return ""
}

// judgeReceiptAge bounds how long the node, and with it this client, may have
// been cut off from the log.
func judgeReceiptAge(_ context.Context, a *appraisal) finding {
	ages := a.policy.Receipt
	if ages.Unchecked != "" {
		return unchecked(ages.Unchecked)
	}
	var newest time.Time
	for _, c := range a.witnessed() {
		if c.quorum.Freshness.After(newest) {
			newest = c.quorum.Freshness
		}
	}
	if newest.IsZero() {
		return fail("current/receipt-stale", "no quorum has dated a receipt of the release")
	}
	if age := a.now.Sub(newest); age > ages.MaxAge {
		return fail("current/receipt-stale", "a quorum last cosigned the newest receipt %s ago; the policy allows %s", round(age), round(ages.MaxAge))
	}
	return pass("a quorum cosigned %s ago, at most %s is allowed", round(max(a.now.Sub(newest), 0)), round(ages.MaxAge))
}

// judgeEvidenceAge dates evidence that answers no nonce by the checkpoint that
// it answers, and by nothing else: what the hardware signed covers the hash of
// that note, cosignatures and all, so the same tree head cosigned anew does not
// make old evidence young.
func judgeEvidenceAge(_ context.Context, a *appraisal) finding {
	note := a.doc.Challenge.Checkpoint
	if note == "" {
		if a.in.Nonce == nil {
			return fail("current/evidence-undated", "the evidence answers neither a nonce of this client nor a checkpoint")
		}
		return a.momentary("made for the nonce, so just now")
	}
	n := a.open([]byte(note))
	switch {
	case n.quorumErr != nil:
		return fail("current/evidence-undated", "the checkpoint that the evidence answers does not date it: %v", n.quorumErr)
	case n.log.Unwitnessed():
		return fail("current/evidence-undated", "the checkpoint that the evidence answers does not date it: nobody witnesses the log %s", n.log.Origin())
	}
	age := a.now.Sub(n.quorum.Freshness)
	if a.policy.EvidenceAge <= 0 || age > a.policy.EvidenceAge {
		return fail("current/evidence-stale", "the evidence answers a checkpoint of %s ago; the policy allows %s", round(age), round(a.policy.EvidenceAge))
	}
	return pass("made at most %s ago, by the checkpoint that it answers; %s is allowed", round(max(age, 0)), round(a.policy.EvidenceAge))
}

// judgeClock refuses to judge ages by a clock that was set back.
func judgeClock(_ context.Context, a *appraisal) finding {
	if a.historical {
		return finding{result: Recorded, saw: "a file cannot show the clock"}
	}
	if a.memory.Newest == 0 {
		return pass("%s; no cosignature is remembered to hold it against", a.now.Format(time.RFC3339))
	}
	if newest := a.memory.newest(); a.now.Add(receipt.Tolerance).Before(newest) {
		return fail("current/clock", "this clock says %s, and a quorum of witnesses has already signed at %s", a.now.Format(time.RFC3339), newest.Format(time.RFC3339))
	}
	return pass("%s, after every cosignature that was seen", a.now.Format(time.RFC3339))
}

func sameDigests(a, b []statement.Subject) bool {
	return slices.EqualFunc(sorted(a), sorted(b), func(x, y statement.Subject) bool { return x == y })
}

func sorted(s []statement.Subject) []statement.Subject {
	out := slices.Clone(s)
	slices.SortFunc(out, func(a, b statement.Subject) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return out
}
