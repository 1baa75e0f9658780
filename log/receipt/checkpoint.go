package receipt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
)

// Tolerance is how far a cosignature may be dated after the reader's clock and
// still count.
const Tolerance = 60 * time.Second

// emptyRoot is the root of a tree without leaves (RFC 6962 §2.1).
var emptyRoot = sha256.Sum256(nil)

// Checkpoint is the state of a log, as its log and witnesses signed it.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   [32]byte
	Note   []byte // the signed note, cosignature lines included

	// Freshness and Seniority are proven by the policy's quorum of
	// cosignatures, in whole seconds, UTC. Where the policy has no quorum
	// nothing proves a time, and both are what helps least: Freshness is the
	// zero time (as old as can be), Seniority the reader's now (as young as can
	// be).
	Freshness time.Time
	Seniority time.Time

	// Cosignatures are the valid ones by witnesses of the policy that counted,
	// in the order of the policy.
	Cosignatures []Cosignature
}

// Cosignature is a witness's word that it saw a checkpoint. Witness is the
// policy's name for it.
type Cosignature struct {
	Witness string
	Time    time.Time
}

// Fork reports whether a and b, both signed by the log, cannot both be true:
// the same origin and size with another root. Keep both notes: they are the
// evidence.
func Fork(a, b *Checkpoint) bool {
	return a.Origin == b.Origin && a.Size == b.Size && a.Root != b.Root
}

// OpenCheckpoint verifies a signed checkpoint: the log's signature, and a
// quorum of cosignatures that are not from the future. Errors are *[Error].
func (p *Policy) OpenCheckpoint(note []byte, now time.Time) (*Checkpoint, error) {
	n, c, err := p.openLog(note)
	if err != nil {
		return nil, err
	}
	times, err := p.verifyCosignatures(n)
	if err != nil {
		return nil, err
	}
	if p.quorum == nil {
		c.Seniority = now.UTC().Truncate(time.Second)
		return c, nil
	}
	limit := now.Add(Tolerance).Unix()
	claimed := slices.Clone(times)
	for i, w := range p.witnesses {
		switch t := times[i]; {
		case t > limit:
			times[i] = 0
		case t > 0:
			c.Cosignatures = append(c.Cosignatures, Cosignature{w.Name, time.Unix(t, 0).UTC()})
		}
	}
	freshness, seniority, ok := p.quorumTimes(times)
	if !ok {
		if _, _, ok := p.quorumTimes(claimed); ok {
			return nil, errorf(Future, "checkpoint %d of %s is cosigned in the future of this clock, which says %s; set the clock right",
				c.Size, c.Origin, now.UTC().Format(time.RFC3339))
		}
		return nil, errorf(Quorum, "checkpoint %d of %s is cosigned by %s of the policy, which is not the quorum", c.Size, c.Origin, c.cosigners())
	}
	c.Freshness, c.Seniority = time.Unix(freshness, 0).UTC(), time.Unix(seniority, 0).UTC()
	return c, nil
}

// OpenUnwitnessed verifies the log's signature alone. That proves nothing but
// that the log said so: it is for those who look for a log that says two
// things. Freshness and Seniority are not set.
func (p *Policy) OpenUnwitnessed(note []byte) (*Checkpoint, error) {
	_, c, err := p.openLog(note)
	return c, err
}

func (c *Checkpoint) cosigners() string {
	var names []string
	for _, cosignature := range c.Cosignatures {
		names = append(names, cosignature.Witness)
	}
	if len(names) == 0 {
		return "no witness"
	}
	return strings.Join(names, ", ")
}

// openLog takes a note apart and verifies the log's own signature.
func (p *Policy) openLog(note []byte) (*signedNote, *Checkpoint, error) {
	n, err := parseNote(note)
	if err != nil {
		return nil, nil, err
	}
	if n.checkpoint.Origin != p.Origin() {
		return nil, nil, errorf(WrongLog, "the checkpoint is of log %s; the policy names %s", clip(n.checkpoint.Origin), p.Origin())
	}
	verifier := p.log.verifier
	i := slices.IndexFunc(n.signatures, func(s noteSignature) bool {
		return s.name == verifier.Name() && s.hash == verifier.KeyHash()
	})
	if i < 0 {
		return nil, nil, errorf(LogSignature, "the checkpoint has no signature by the key of log %s that the policy names", p.Origin())
	}
	if !verifier.Verify([]byte(n.text), n.signatures[i].sig) {
		return nil, nil, errorf(LogSignature, "the signature of log %s on its checkpoint is not valid", p.Origin())
	}
	return n, &Checkpoint{
		Origin: n.checkpoint.Origin,
		Size:   n.checkpoint.N,
		Root:   [32]byte(n.checkpoint.Hash),
		Note:   bytes.Clone(note),
	}, nil
}

// verifyCosignatures returns the time of each witness's cosignature in Unix
// seconds, 0 for a witness that did not cosign.
func (p *Policy) verifyCosignatures(n *signedNote) ([]int64, error) {
	times := make([]int64, len(p.witnesses))
	for _, s := range n.signatures {
		i := slices.IndexFunc(p.witnesses, func(w witness) bool {
			return s.name == w.verifier.Name() && s.hash == w.verifier.KeyHash()
		})
		if i < 0 {
			continue
		}
		if !p.witnesses[i].verifier.Verify([]byte(n.text), s.sig) {
			return nil, errorf(Quorum, "the cosignature of witness %s is not valid", p.witnesses[i].Name)
		}
		// A cosignature is an 8-byte big-endian time and an Ed25519 signature
		// (C2SP tlog-cosignature); Verify has seen its length.
		times[i] = int64(min(binary.BigEndian.Uint64(s.sig), math.MaxInt64))
	}
	return times, nil
}

// quorumTimes returns the freshness and seniority of cosignatures by these
// times (0: none), and whether they satisfy the quorum at all.
func (p *Policy) quorumTimes(times []int64) (freshness, seniority int64, ok bool) {
	distinct := slices.Clone(times)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	// satisfiedBy counts the cosignatures dated from t to u.
	satisfiedBy := func(t, u int64) bool {
		cosigned := make([]bool, len(times))
		for i, at := range times {
			cosigned[i] = at > 0 && t <= at && at <= u
		}
		return p.quorum.satisfied(cosigned)
	}
	for _, t := range distinct {
		if t > 0 && satisfiedBy(0, t) {
			seniority, ok = t, true
			break
		}
	}
	for _, t := range slices.Backward(distinct) {
		if t > 0 && satisfiedBy(t, math.MaxInt64) {
			freshness = t
			break
		}
	}
	return freshness, seniority, ok
}
