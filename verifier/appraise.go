package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Options are what a verdict rests on besides the evidence.
type Options struct {
	// Policy is the relying party's. Required.
	Policy *policies.Policy
	// Now is the client's clock; nil is time.Now.
	Now func() time.Time
	// State is what the client remembers of earlier verdicts; nil is nothing.
	State State
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Input is evidence, and what the client itself knows about how it got it.
type Input struct {
	Document *evidence.Document
	// Nonce is what the client asked with, nil if it asked without. Evidence
	// is then dated by the checkpoint that it answers.
	Nonce *[32]byte
	// SPKI is the DER SubjectPublicKeyInfo of the key that ended the client's
	// own connection, which will carry its requests.
	SPKI []byte
}

// Appraise decides about evidence. The error is nil if and only if the policy
// accepts it. It is a [*hardware.Rejection], which also stands in the verdict,
// if the answer is no; with any other error the question could not be asked,
// and there is no verdict.
func Appraise(ctx context.Context, in Input, opts Options) (*Verdict, error) {
	return appraise(ctx, in, opts, checks, false)
}

// check is one item of the list. judge reads what it needs through the
// appraisal's own methods and never what an earlier check left behind, so that
// a test can drop any of them and see what it alone had stopped.
type check struct {
	name  string
	judge func(context.Context, *appraisal) finding
}

// finding is how a check ended. The zero value is no answer.
type finding struct {
	result Result
	saw    string
	reject *hardware.Rejection
}

func pass(format string, args ...any) finding {
	return finding{result: Pass, saw: fmt.Sprintf(format, args...)}
}

func unchecked(why string) finding { return finding{result: Unchecked, saw: why} }

func fail(code hardware.Code, format string, args ...any) finding {
	return refuse(hardware.Refuse(code, format, args...))
}

func refuse(r *hardware.Rejection) finding {
	return finding{result: Fail, saw: r.Detail, reject: r}
}

// checks is what a verdict consists of.
var checks = []check{
	{"hardware", judgeHardware},
	{"isolation", judgeIsolation},
	{"challenge", judgeChallenge},
	{"TLS key", judgeTLSKey},
	{"user data", judgeUserData},
	{"registers", judgeRegisters},
	{"open registers", judgeOpenRegisters},
	{"publisher", judgePublisher},
	{"product", judgeProduct},
	{"log", judgeLog},
	{"one history", judgeFork},
	{"witnesses", judgeQuorum},
	{"cooling-off", judgeSeniority},
	{"channel", judgeChannel},
	{"security epoch", judgeEpoch},
	{"withdrawals", judgeWithdrawals},
	{"receipt age", judgeReceiptAge},
	{"evidence age", judgeEvidenceAge},
	{"clock", judgeClock},
	{"rebuilt", judgeRebuilt},
	{"machines", judgeMachines},
	{"rules", judgeRules},
}

// appraisal is one verdict in the making. The fields below the line are what
// its methods worked out, once.
type appraisal struct {
	in         Input
	doc        *evidence.Document
	policy     *policies.Policy
	now        time.Time
	memory     Memory
	state      State
	historical bool

	claims    *hardware.Claims // set by the first check
	signed    lazy[*signedRelease]
	receipts  lazy[[]*releaseReceipt]
	observed  lazy[[]observation]
	opened    map[string]*seenNote // by note
	notes     []string
	withdrawn [][]byte     // leaves of withdrawals to be remembered
	channel   *ChannelSeen // to be remembered
}

// lazy is a value that is worked out when it is first asked for.
type lazy[T any] struct {
	done   bool
	value  T
	reject *hardware.Rejection
}

func (l *lazy[T]) get(f func() (T, *hardware.Rejection)) (T, *hardware.Rejection) {
	if !l.done {
		l.value, l.reject = f()
		l.done = true
	}
	return l.value, l.reject
}

// attempts bounds how often a verdict is begun anew because somebody else with
// the same State learned, in the meantime, what contradicts it.
const attempts = 8

func appraise(ctx context.Context, in Input, opts Options, list []check, historical bool) (*Verdict, error) {
	if opts.Policy == nil {
		return nil, hardware.Refuse("policy/missing", "no policy was given; nothing can be decided without one")
	}
	if in.Document == nil {
		return nil, hardware.Refuse("evidence/missing", "no evidence document was given")
	}
	for range attempts {
		a := &appraisal{
			in: in, doc: in.Document, policy: opts.Policy,
			now: opts.now().UTC(), state: opts.State, historical: historical,
		}
		v, err := a.verdict(ctx, list)
		if errors.Is(err, errOvertaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.Rejection != nil {
			return v, v.Rejection
		}
		return v, nil
	}
	return nil, fmt.Errorf("%w, %d times in a row; ask again", errOvertaken, attempts)
}

// verdict goes through the list once. It is errOvertaken if what was accepted
// has to be judged again.
func (a *appraisal) verdict(ctx context.Context, list []check) (*Verdict, error) {
	a.memory.init()
	if a.state != nil {
		m, err := a.state.View()
		if err != nil {
			return nil, fmt.Errorf("reading what this client has seen before: %w", err)
		}
		a.memory = m
	}

	v := &Verdict{Policy: a.policy.Name, Time: a.now.Truncate(time.Second), Historical: a.historical}
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if v.Rejection != nil {
			v.Checks = append(v.Checks, Check{Name: c.name, Result: NotReached})
			continue
		}
		f := c.judge(ctx, a)
		if f.result == "" {
			// A judge that says nothing must not count as one that agrees.
			f = fail("hardware/options", "the check %q came to no result", c.name)
		}
		entry := Check{Name: c.name, Result: f.result, Saw: f.saw}
		if f.reject != nil {
			entry.Code = f.reject.Code
			v.Rejection = f.reject
		}
		v.Checks = append(v.Checks, entry)
	}
	v.Claims = a.claims
	if s, r := a.release(); r == nil {
		v.Release = summarize(s.signed)
	}
	if err := a.remember(v); err != nil {
		// What cannot be remembered cannot be held against the next one, so
		// it is not accepted; a refusal stays a refusal.
		if v.Rejection == nil {
			return nil, err
		}
		a.note("%v", err)
	}
	v.Notes = a.notes
	return v, nil
}

// signedRelease is the release that came with the evidence, well formed and
// not yet believed.
type signedRelease struct {
	transparent *receipt.Transparent
	signed      *statement.Signed
	release     *statement.Release
}

func (a *appraisal) release() (*signedRelease, *hardware.Rejection) {
	return a.signed.get(func() (*signedRelease, *hardware.Rejection) {
		if len(a.doc.Release) == 0 {
			return nil, hardware.Refuse("statement/missing", "the evidence comes without a release statement")
		}
		t, err := receipt.ParseTransparent(a.doc.Release)
		if err != nil {
			return nil, transparentError(err)
		}
		signed, err := statement.Parse(t.Leaf)
		if err != nil {
			return nil, hardware.Refuse("statement/malformed", "the release statement is malformed: %v", err)
		}
		rel, ok := signed.Release()
		if !ok {
			return nil, hardware.Refuse("statement/type", "what came as the release statement is a statement of another type")
		}
		return &signedRelease{t, signed, rel}, nil
	})
}

// errOvertaken says that a verdict rests on less than what is remembered by now.
var errOvertaken = errors.New("what this client remembers changed while evidence was judged by it")

// remember tells the State what was seen. What a log, a channel or a withdrawer
// signed is remembered whatever the verdict, as far as the checks came; a
// security epoch becomes the floor only when everything about its release was
// accepted.
//
// Two verdicts that are given at the same time have not seen each other's, so
// that one could accept what contradicts the other: whatever was accepted is
// held against the memory once more, in the step that changes it.
func (a *appraisal) remember(v *Verdict) error {
	if a.state == nil || a.historical {
		return nil
	}
	seen, _ := a.observations()
	var full error
	overtaken := false
	err := a.state.Update(func(m *Memory) {
		full = nil
		overtaken = a.overtakenBy(m, seen, v)
		if overtaken && v.Rejection == nil {
			return
		}
		for _, o := range seen {
			if o.fork {
				continue // kept as evidence, and never the history to compare with
			}
			m.remember(o.vkey, o.checkpoint.Size, o.checkpoint.Note, !o.freshness.IsZero())
			m.Newest = max(m.Newest, o.freshness.Unix())
		}
		full = m.withdraw(a.policy.Product, a.withdrawn)
		if a.channel != nil {
			key := a.channelKey()
			if a.channel.Sequence > m.Channels[key].Sequence {
				m.Channels[key] = *a.channel
			}
		}
		if v.Rejection == nil && v.Release != nil {
			m.Epochs[a.policy.Product] = max(m.Epochs[a.policy.Product], v.Release.SecurityEpoch)
		}
	})
	if err := errors.Join(err, full); err != nil {
		return fmt.Errorf("remembering what was seen: %w", err)
	}
	if overtaken && v.Rejection == nil {
		return errOvertaken
	}
	return nil
}

// overtakenBy reports whether m has changed from what this verdict was judged
// by, so that a check might now refuse it.
func (a *appraisal) overtakenBy(m *Memory, seen []observation, v *Verdict) bool {
	product, channel := a.policy.Product, a.channelKey()
	for _, o := range seen {
		now := m.at(o.vkey, o.checkpoint.Size)
		if now != nil && !bytes.Equal(now, a.memory.at(o.vkey, o.checkpoint.Size)) && !sameRoot(now, o.checkpoint.Note) {
			return true
		}
	}
	if a.channel != nil && m.Channels[channel] != a.memory.Channels[channel] && m.Channels[channel] != *a.channel {
		return true
	}
	if m.Epochs[product] != a.memory.Epochs[product] && v.Release != nil && v.Release.SecurityEpoch < m.Epochs[product] {
		return true
	}
	return slices.ContainsFunc(m.Withdrawals[product], func(leaf []byte) bool {
		return !slices.ContainsFunc(a.memory.Withdrawals[product], func(known []byte) bool { return bytes.Equal(known, leaf) })
	})
}
