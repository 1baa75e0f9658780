package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

const (
	maxPushes          = 2  // parsed at a time
	maxPushConnections = 16 // each may hold a body of evidence.MaxPushBytes
	maxPushHeaderBytes = 8 << 10
	pushTimeout        = 30 * time.Second
)

// state is what the sidecar pushed, as the node holds it. It is never changed,
// only replaced, so that a document is made from one state.
type state struct {
	release      *release          // nil before the first
	rebuilds     []json.RawMessage // transparent statements, as are the next two
	channel      json.RawMessage
	withdrawals  []json.RawMessage
	checkpoint   string // the note; empty before the first
	endorsements []evidence.Endorsement
}

// release is a pushed release statement, and how it fits the node.
type release struct {
	transparent json.RawMessage
	leafHash    [32]byte
	name        string // product and version, for people
	fit
}

// servePush takes a push. Whoever can reach the port can push, and learns
// nothing and decides nothing by it: a client believes what proves itself. The
// worst that a wrong push does is to stand in the place of a right one until
// the next.
func (n *Node) servePush(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != evidence.PushPath {
		writeError(w, errNotFound())
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, errMethod(http.MethodPost))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, evidence.MaxPushBytes))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			writeError(w, errTooLarge(tooLarge.Limit))
			return
		}
		writeError(w, errBadPush("reading the push: %v", err))
		return
	}
	// After reading, so that whoever sends slowly keeps nobody waiting.
	select {
	case n.parsing <- struct{}{}:
		defer func() { <-n.parsing }()
	case <-r.Context().Done():
		writeError(w, errBusy())
		return
	}
	// The push is taken or not, whether or not the sidecar waits for the answer.
	if err := n.take(context.WithoutCancel(r.Context()), body); err != nil {
		n.logger.Warn("a push was refused", "error", err)
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take parses a push and puts it in the place of what the node holds. Nothing
// is taken of a push that is malformed anywhere.
func (n *Node) take(ctx context.Context, body []byte) error {
	push, signed, err := readPush(body)
	if err != nil {
		return err
	}
	n.pushing.Lock()
	defer n.pushing.Unlock()
	var latest *release
	if signed != nil {
		ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
		defer cancel()
		registers, err := n.registers(ctx)
		if busy := new(evidence.Error); errors.As(err, &busy) {
			return busy
		}
		if err != nil {
			n.logger.Error("the attester failed", "error", err)
			return errAttester("the node cannot read its registers; its console has the reason")
		}
		predicate, _ := signed.Release()
		latest = &release{
			transparent: push.Release,
			leafHash:    signed.LeafHash(),
			name:        predicate.Product + " " + predicate.Version,
			fit:         compare(predicate, n.platform, registers),
		}
		n.warn(latest)
	}
	n.state.Store(n.state.Load().with(push, latest))
	n.announce()
	return nil
}

// warn says on the console how a release does not fit the node: once, though
// the sidecar pushes it again with every checkpoint.
func (n *Node) warn(latest *release) {
	if former := n.state.Load().release; former != nil && former.leafHash == latest.leafHash && former.fit.equal(latest.fit) {
		return
	}
	switch {
	case !latest.covered:
		n.logger.Warn("the pushed release has no measurement for this node's platform", "release", latest.name, "platform", n.platform)
	case len(latest.unlisted) > 0:
		n.logger.Warn("the pushed release does not list this node's registers: clients will refuse it",
			"release", latest.name, "registers", strings.Join(latest.unlisted, ", "))
	}
}

// readPush parses a push down to the last statement in it, and returns the
// release's besides, if it has one. No signature is verified: the node holds
// nobody's key.
func readPush(body []byte) (push *evidence.Push, release *statement.Signed, err error) {
	if push, err = evidence.ParsePush(body); err != nil {
		return nil, nil, err
	}
	type part struct {
		path  string
		bytes json.RawMessage
		kind  statement.Predicate
	}
	var parts []part
	if push.Channel != nil {
		parts = append(parts, part{"/channel", push.Channel, &statement.Channel{}})
	}
	for i, b := range push.Rebuilds {
		parts = append(parts, part{fmt.Sprintf("/rebuilds/%d", i), b, &statement.Rebuild{}})
	}
	for i, b := range push.Withdrawals {
		parts = append(parts, part{fmt.Sprintf("/withdrawals/%d", i), b, &statement.Withdrawal{}})
	}
	if push.Release != nil {
		parts = append(parts, part{"/release", push.Release, &statement.Release{}})
	}
	for _, p := range parts {
		signed, err := readTransparent(p.bytes)
		if err != nil {
			return nil, nil, errBadPush("%s: %v", p.path, err)
		}
		if reflect.TypeOf(signed.Statement.Predicate) != reflect.TypeOf(p.kind) {
			return nil, nil, errBadPush("%s: a statement of another kind stands there", p.path)
		}
		if p.path == "/release" {
			release = signed
		}
	}
	if push.Checkpoint != "" {
		if _, _, _, err := receipt.ParseNote([]byte(push.Checkpoint)); err != nil {
			return nil, nil, errBadPush("/checkpoint: %v", err)
		}
	}
	return push, release, nil
}

// readTransparent parses a transparent statement: its receipts, and the leaf
// with the statement in it.
func readTransparent(b []byte) (*statement.Signed, error) {
	transparent, err := receipt.ParseTransparent(b)
	if err != nil {
		return nil, err
	}
	return statement.Parse(transparent.Leaf)
}

// with returns the state after a push. What the push leaves out stays, as long
// as all together has the size of one push: a document has to hold it.
func (s *state) with(push *evidence.Push, latest *release) *state {
	next := &state{
		release:      latest,
		rebuilds:     push.Rebuilds,
		channel:      push.Channel,
		withdrawals:  push.Withdrawals,
		checkpoint:   push.Checkpoint,
		endorsements: push.Endorsements,
	}
	room := evidence.MaxPushBytes - next.size()
	keep := func(absent bool, size int, take func()) {
		if absent && size <= room {
			room -= size
			take()
		}
	}
	// In the order of what a client misses most.
	if s.release != nil {
		keep(next.release == nil, len(s.release.transparent), func() { next.release = s.release })
	}
	keep(next.checkpoint == "", len(s.checkpoint), func() { next.checkpoint = s.checkpoint })
	keep(next.endorsements == nil, endorsementBytes(s.endorsements), func() { next.endorsements = s.endorsements })
	keep(next.channel == nil, len(s.channel), func() { next.channel = s.channel })
	keep(next.withdrawals == nil, statementBytes(s.withdrawals), func() { next.withdrawals = s.withdrawals })
	keep(next.rebuilds == nil, statementBytes(s.rebuilds), func() { next.rebuilds = s.rebuilds })
	return next
}

// size is about what the state takes up in a document.
func (s *state) size() int {
	size := statementBytes(s.rebuilds) + len(s.channel) + statementBytes(s.withdrawals) + len(s.checkpoint) + endorsementBytes(s.endorsements)
	if s.release != nil {
		size += len(s.release.transparent)
	}
	return size
}

func statementBytes(statements []json.RawMessage) (size int) {
	for _, s := range statements {
		size += len(s)
	}
	return size
}

func endorsementBytes(endorsements []evidence.Endorsement) (size int) {
	for _, e := range endorsements {
		size += base64.StdEncoding.EncodedLen(len(e.Data))
	}
	return size
}

// presentable returns why the node answers a client's nonce with no evidence
// in this state, if so.
//
// Registers that the release does not list are no such reason. A host that
// booted the image with other load options must be refused by the client, by
// the register's name and on the hardware's word. If the node kept its evidence
// back, a tampered boot would look like a missing push, and nobody but the
// tampered machine itself would be there to say which it was.
func (s *state) presentable(platform string) error {
	switch {
	case s.release == nil:
		return errNoStatement()
	case !s.release.covered:
		return errNoPlatform(s.release.name, platform)
	}
	return nil
}

// datable returns why the node shows no evidence dated by a checkpoint, if so.
// That is what a node says of its own accord, made once and shown to everyone,
// so it has to be of a release that lists the node's registers.
func (s *state) datable(platform string) error {
	if err := s.presentable(platform); err != nil {
		return err
	}
	switch {
	case len(s.release.unlisted) > 0:
		return errOtherRegisters(s.release.name, s.release.unlisted)
	case s.checkpoint == "":
		return errNoCheckpoint()
	}
	return nil
}

// document returns the evidence document for a key and an attestation. Where
// the machine itself and the sidecar have an endorsement of one type, the
// machine's stands.
func (s *state) document(platform string, id *identity, challenge evidence.ChallengeSource, a *Attestation) *evidence.Document {
	endorsements := slices.Clone(a.Endorsements)
	for _, pushed := range s.endorsements {
		if !slices.ContainsFunc(endorsements, func(own evidence.Endorsement) bool { return own.Type == pushed.Type }) {
			endorsements = append(endorsements, pushed)
		}
	}
	return &evidence.Document{
		Platform:     platform,
		Challenge:    challenge,
		TLSKey:       id.spki,
		Report:       a.Report,
		Quote:        a.Quote,
		Endorsements: endorsements,
		Release:      s.release.transparent,
		Rebuilds:     s.rebuilds,
		Channel:      s.channel,
		Withdrawals:  s.withdrawals,
	}
}

// fit is how a release fits a node.
type fit struct {
	covered  bool     // it has a measurement for the node's platform
	unlisted []string // the node's registers that the nearest measurement does not list
}

func (f fit) equal(other fit) bool {
	return f.covered == other.covered && slices.Equal(f.unlisted, other.unlisted)
}

// compare says how a release fits a node with these registers. An open register
// ("any") allows each value; whether that is acceptable is for a client's
// policy.
func compare(release *statement.Release, platform string, registers map[string]string) fit {
	var nearest fit
	for _, m := range release.Measurements {
		if m.Platform != platform {
			continue
		}
		var wrong []string
		for name, value := range registers {
			if allowed, ok := m.Registers[name]; !ok || (allowed.Any == "" && !slices.Contains(allowed.OneOf, value)) {
				wrong = append(wrong, name)
			}
		}
		for name := range m.Registers {
			if _, ok := registers[name]; !ok {
				wrong = append(wrong, name)
			}
		}
		if !nearest.covered || len(wrong) < len(nearest.unlisted) {
			nearest = fit{covered: true, unlisted: wrong}
		}
	}
	slices.SortFunc(nearest.unlisted, compareRegisters)
	return nearest
}

// compareRegisters orders pcr2 before pcr11.
func compareRegisters(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
