package verifier

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// seenNote is a signed checkpoint, held against the log of the policy that it
// says it is of. The same note stands in many receipts and is verified once.
type seenNote struct {
	log       *receipt.Policy     // nil: none of the policy's logs
	signed    *receipt.Checkpoint // by the log alone
	signedErr error
	quorum    *receipt.Checkpoint // by a quorum of witnesses as well
	quorumErr error
}

func (a *appraisal) open(note []byte) *seenNote {
	if n, ok := a.opened[string(note)]; ok {
		return n
	}
	n := &seenNote{}
	if a.opened == nil {
		a.opened = map[string]*seenNote{}
	}
	a.opened[string(note)] = n
	origin, _, _, err := receipt.ParseNote(note)
	if err != nil {
		n.signedErr, n.quorumErr = err, err
		return n
	}
	if n.log = a.logOf(origin); n.log == nil {
		n.signedErr = &receipt.Error{Kind: receipt.WrongLog,
			Detail: fmt.Sprintf("it is of the log %q, which the policy does not name", clip(origin))}
		n.quorumErr = n.signedErr
		return n
	}
	if n.signed, n.signedErr = n.log.OpenUnwitnessed(note); n.signedErr != nil {
		n.quorumErr = n.signedErr
		return n
	}
	n.quorum, n.quorumErr = n.log.OpenCheckpoint(note, a.now)
	return n
}

// releaseReceipt is one receipt, held against the policy's logs.
type releaseReceipt struct {
	*seenNote
	included error // nil: signed by the log, and the leaf is in its tree
}

// releaseReceipts judges each receipt of the release by itself.
func (a *appraisal) releaseReceipts() ([]*releaseReceipt, *hardware.Rejection) {
	return a.receipts.get(func() ([]*releaseReceipt, *hardware.Rejection) {
		rel, r := a.release()
		if r != nil {
			return nil, r
		}
		var out []*releaseReceipt
		for _, text := range rel.transparent.Receipts {
			out = append(out, a.readReceipt(rel.transparent.Leaf, text))
		}
		return out, nil
	})
}

func (a *appraisal) readReceipt(leaf []byte, text string) *releaseReceipt {
	proof, err := receipt.ParseProof([]byte(text))
	if err != nil {
		return &releaseReceipt{&seenNote{signedErr: err, quorumErr: err}, err}
	}
	r := &releaseReceipt{a.open(proof.Note), nil}
	if r.included = r.signedErr; r.included != nil {
		return r
	}
	if err := tlog.CheckRecord(proof.Hashes, r.signed.Size, tlog.Hash(r.signed.Root), proof.Index, tlog.RecordHash(leaf)); err != nil {
		r.included = &receipt.Error{Kind: receipt.Inclusion,
			Detail: fmt.Sprintf("the proof does not lead from the statement at index %d to the root of checkpoint %d of %s", proof.Index, r.signed.Size, r.signed.Origin)}
	}
	return r
}

func (a *appraisal) logOf(origin string) *receipt.Policy {
	for _, l := range a.policy.Logs {
		if l.Origin() == origin {
			return l
		}
	}
	return nil
}

var receiptCodes = map[receipt.Kind]hardware.Code{
	receipt.Malformed:    "receipt/malformed",
	receipt.WrongLog:     "receipt/log",
	receipt.LogSignature: "receipt/signature",
	receipt.Inclusion:    "receipt/inclusion",
	receipt.Quorum:       "receipt/quorum",
	receipt.Future:       "receipt/future",
}

func receiptRejection(err error) *hardware.Rejection {
	var e *receipt.Error
	if errors.As(err, &e) {
		if code, ok := receiptCodes[e.Kind]; ok {
			return hardware.Refuse(code, "%s", e.Detail)
		}
	}
	return hardware.Refuse("receipt/malformed", "%v", err)
}

// candidates are the receipts that prove inclusion; all of them where none does,
// which judgeLog has then refused.
func candidates(all []*releaseReceipt) []*releaseReceipt {
	var out []*releaseReceipt
	for _, r := range all {
		if r.included == nil {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// witnessed are the candidates whose checkpoint a quorum cosigned.
func (a *appraisal) witnessed() []*releaseReceipt {
	all, r := a.releaseReceipts()
	if r != nil {
		return nil
	}
	var out []*releaseReceipt
	for _, c := range candidates(all) {
		if c.quorum != nil {
			out = append(out, c)
		}
	}
	return out
}

// judgeLog demands that a log of the policy holds the release, by its own word.
func judgeLog(_ context.Context, a *appraisal) finding {
	all, r := a.releaseReceipts()
	if r != nil {
		return refuse(r)
	}
	var worst error
	for _, c := range all {
		if c.included == nil {
			return pass("in %s, by a checkpoint that the log signed", c.log.Origin())
		}
		if worst == nil || c.log != nil {
			worst = c.included
		}
	}
	if worst == nil {
		return fail("receipt/missing", "the release has no receipt")
	}
	return refuse(receiptRejection(worst))
}

// observation is a checkpoint that a log of the policy signed, wherever in the
// document it stood.
type observation struct {
	vkey       string
	checkpoint *receipt.Checkpoint
	freshness  time.Time // zero without a quorum
	fork       bool      // contradicts another one
}

// observations collects the checkpoints of every receipt in the document and
// of the challenge. The log's signature is enough: a log that signs two
// histories has forked, whoever else signed them.
func (a *appraisal) observations() ([]observation, *hardware.Rejection) {
	return a.observed.get(func() ([]observation, *hardware.Rejection) {
		var notes [][]byte
		if c := a.doc.Challenge.Checkpoint; c != "" {
			notes = append(notes, []byte(c))
		}
		statements := slices.Concat([]json.RawMessage{a.doc.Release, a.doc.Channel}, a.doc.Rebuilds, a.doc.Withdrawals)
		for _, raw := range statements {
			t, err := receipt.ParseTransparent(raw)
			if err != nil {
				continue // refused where the statement is read
			}
			for _, text := range t.Receipts {
				if p, err := receipt.ParseProof([]byte(text)); err == nil {
					notes = append(notes, p.Note)
				}
			}
		}
		var out []observation
		for _, note := range notes {
			n := a.open(note)
			if n.signed == nil {
				continue
			}
			o := observation{vkey: n.log.LogVerifierKey(), checkpoint: n.signed}
			if n.quorum != nil && !n.log.Unwitnessed() {
				o.freshness = n.quorum.Freshness
			}
			out = append(out, o)
		}
		return out, nil
	})
}

// judgeFork refuses a log that shows two histories: of the same size, signed by
// the same key, with different roots. It compares what came with the evidence
// among itself and with what the client remembers.
func judgeFork(_ context.Context, a *appraisal) finding {
	seen, _ := a.observations()
	known := 0
	for i := range seen {
		o := &seen[i]
		var other *receipt.Checkpoint
		for _, m := range a.memory.Checkpoints[o.vkey] {
			if m.Size != o.checkpoint.Size {
				continue
			}
			// Verified again: what is remembered is believed for its
			// signature and not for lying in our folder.
			if c := a.open(m.Note).signed; c != nil {
				known++
				if receipt.Fork(c, o.checkpoint) {
					other = c
				}
			}
		}
		for _, p := range seen[:i] {
			if p.vkey == o.vkey && receipt.Fork(p.checkpoint, o.checkpoint) {
				other = p.checkpoint
			}
		}
		if other == nil {
			continue
		}
		o.fork = true
		where := "not kept: this client keeps no state"
		if a.state != nil && !a.historical {
			kept, err := a.state.KeepFork(Fork{o.checkpoint.Origin, o.checkpoint.Size, [2][]byte{other.Note, o.checkpoint.Note}})
			if err == nil {
				where = "kept in " + kept
			} else {
				where = "not kept"
				a.note("the evidence of the fork could not be kept: %v", err)
			}
		}
		return fail("receipt/fork", "the log %s has signed two histories of size %d: roots %s and %s; both checkpoints are %s",
			o.checkpoint.Origin, o.checkpoint.Size, tlog.Hash(other.Root), tlog.Hash(o.checkpoint.Root), where)
	}
	if a.state == nil {
		return pass("%d checkpoints do not contradict one another; none is remembered from before", len(seen))
	}
	return pass("%d checkpoints contradict neither one another nor what was seen before (%d of the same size)", len(seen), known)
}

// judgeQuorum demands the witnesses' word for the checkpoint.
func judgeQuorum(_ context.Context, a *appraisal) finding {
	all, r := a.releaseReceipts()
	if r != nil {
		return refuse(r)
	}
	if w := a.witnessed(); len(w) > 0 {
		best := w[0]
		for _, c := range w {
			if c.quorum.Freshness.After(best.quorum.Freshness) {
				best = c
			}
		}
		if best.log.Unwitnessed() {
			a.note("nobody witnesses the log %s: its operator can show each reader another one", best.log.Origin())
			return unchecked("the policy accepts the unwitnessed log " + best.log.Origin())
		}
		return pass("checkpoint %d of %s, cosigned by %s", best.quorum.Size, best.quorum.Origin, cosigners(best.quorum))
	}
	var worst error
	for _, c := range candidates(all) {
		if c.quorumErr != nil {
			worst = c.quorumErr
		}
	}
	if worst == nil {
		return fail("receipt/quorum", "no receipt of the release has a quorum of cosignatures")
	}
	return refuse(receiptRejection(worst))
}

func cosigners(c *receipt.Checkpoint) string {
	s := ""
	for i, w := range c.Cosignatures {
		if i > 0 {
			s += ", "
		}
		s += w.Witness
	}
	return s
}

// judgeSeniority lets nothing in before the world had time to notice it.
func judgeSeniority(_ context.Context, a *appraisal) finding {
	ages := a.policy.Receipt
	if ages.Unchecked != "" {
		return unchecked(ages.Unchecked)
	}
	if ages.MinAge == 0 {
		return pass("the policy demands none")
	}
	oldest := a.now
	for _, c := range a.witnessed() {
		if c.quorum.Seniority.Before(oldest) {
			oldest = c.quorum.Seniority
		}
	}
	age := a.now.Sub(oldest)
	if age < ages.MinAge {
		return fail("receipt/too-young", "a quorum first saw the release %s ago; the policy demands %s", round(age), round(ages.MinAge))
	}
	return pass("a quorum first saw the release %s ago", round(age))
}

// logged verifies that a statement other than the release is in one of the
// policy's logs, with a quorum.
func (a *appraisal) logged(t *receipt.Transparent) error {
	var worst error
	for _, text := range t.Receipts {
		r := a.readReceipt(t.Leaf, text)
		if r.included == nil && r.quorumErr == nil {
			return nil
		}
		if worst == nil || r.log != nil {
			worst = cmp.Or(r.included, r.quorumErr)
		}
	}
	if worst == nil {
		return errors.New("it has no receipt")
	}
	return worst
}

// transparent reads a statement that came with the evidence.
func transparent(raw json.RawMessage) (*receipt.Transparent, *statement.Signed, error) {
	t, err := receipt.ParseTransparent(raw)
	if err != nil {
		return nil, nil, err
	}
	s, err := statement.Parse(t.Leaf)
	if err != nil {
		return nil, nil, err
	}
	return t, s, nil
}

// round prints a duration in whole seconds and without zero parts: 24h, 1m30s.
func round(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
