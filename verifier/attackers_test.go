package verifier

import (
	"crypto/ed25519"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

func lines(v *Verdict) string {
	if v == nil {
		return "(no verdict)"
	}
	return strings.Join(v.Lines(), "\n")
}

func mustChips() [2]*simulated.AMD {
	c, err := chips()
	if err != nil {
		panic(err)
	}
	return c
}

var signature = regexp.MustCompile(`"sig":"[^"]*"`)

// forge puts a stranger's signature in the place of a leaf's own.
func forge(s *scene, leaf, payload []byte) []byte {
	strangers := must[[]byte](s.t)(statement.Sign(payload, key("stranger")))
	return signature.ReplaceAllLiteral(leaf, signature.Find(strangers))
}

func editTransparent(s *scene, raw []byte, edit func(*receipt.Transparent)) []byte {
	t := must[*receipt.Transparent](s.t)(receipt.ParseTransparent(raw))
	edit(t)
	return must[[]byte](s.t)(t.Marshal())
}

var receiptList = regexp.MustCompile(`"receipts":\[.*\]`)

func cutReceipts(transparent string) string {
	return receiptList.ReplaceAllLiteralString(transparent, `"receipts":[]`)
}

// otherLog is the policy's log under another name or key.
func otherLog(s *scene, name, keyName string) *receipt.Policy {
	text := strings.Replace(s.policy.Logs[0].Text(), s.policy.Logs[0].LogVerifierKey(),
		vkey(name, algLog, key(keyName).Public().(ed25519.PublicKey)), 1)
	return must[*receipt.Policy](s.t)(receipt.ParsePolicy(text, false))
}

// forkedTree is a tree of the same log and size that begins alike and ends
// otherwise.
func forkedTree(s *scene, size int64) *tree {
	f := &tree{}
	for i := range size - 1 {
		f.add(s.t, s.log.leaves[i])
	}
	f.add(s.t, []byte("what the others are shown"))
	return f
}

// rememberThisTree has the client remember the tree that the scene will show;
// with forked 1, one of the same size that ends otherwise.
func rememberThisTree(s *scene, forked int) {
	rehearsal := newScene(s.t)
	rehearsal.release, rehearsal.rebuilds, rehearsal.channel = s.release, s.rebuilds, s.channel
	rehearsal.document()
	seen := rehearsal.log
	if forked == 1 {
		seen = forkedTree(rehearsal, rehearsal.log.size())
	}
	note := seen.checkpoint(s.t, t0.Add(-2*time.Hour), "w2")
	update(s, func(m *Memory) { m.remember(s.policy.Logs[0].LogVerifierKey(), seen.size(), note, false) })
}

func update(s *scene, f func(*Memory)) {
	s.t.Helper()
	if err := s.state.Update(f); err != nil {
		s.t.Fatal(err)
	}
}

// learning is a State of which somebody else makes use between View and Update,
// once.
type learning struct {
	State
	between func(*Memory)
}

func (l *learning) View() (Memory, error) {
	m, err := l.State.View()
	if f := l.between; err == nil && f != nil {
		l.between = nil
		err = l.State.Update(f)
	}
	return m, err
}

func channelIn(s *scene) *statement.Channel {
	return s.channel.statement.Predicate.(*statement.Channel)
}

// seenChannel has the client remember a channel statement: the scene's own, or
// one with another identity.
func seenChannel(s *scene, sequence int64, identity string) {
	if identity == "" {
		identity = statement.IDOf(must[[]byte](s.t)(s.channel.statement.Payload())).String()
	}
	update(s, func(m *Memory) {
		m.Channels["hello-inference/stable"] = ChannelSeen{Sequence: sequence, Identity: identity}
	})
}

func releaseID(s *scene) statement.Digest {
	return statement.IDOf(must[[]byte](s.t)(s.release.statement.Payload())).Digest()
}

func withdraw(s *scene, d statement.Digest, registers []statement.RegisterValue) *said {
	if registers == nil {
		registers = []statement.RegisterValue{}
	}
	s.withdrawals = append(s.withdrawals, said{by: key("withdrawer"), statement: &statement.Statement{
		Subjects: []statement.Subject{{Name: "withdrawn", Digest: d}},
		Predicate: &statement.Withdrawal{
			Product: "hello-inference", Registers: registers,
			Reason: "a hole", Since: t0.Add(-3 * time.Hour),
		},
	}})
	return &s.withdrawals[len(s.withdrawals)-1]
}

// reinstate takes the first withdrawal back, some time after it.
func reinstate(s *scene, after time.Duration) {
	first := s.withdrawals[0].statement
	w := *first.Predicate.(*statement.Withdrawal)
	w.Reinstates, w.Reason, w.Since = true, "it was none", w.Since.Add(after)
	s.withdrawals = append(s.withdrawals, said{by: key("withdrawer"), statement: &statement.Statement{
		Subjects: append([]statement.Subject{}, first.Subjects...), Predicate: &w,
	}})
}

// rules compiles a rule as a policy file would have it.
func rules(s *scene, source string) []*policies.Rule {
	text := policyText(s.t)
	text = text[:strings.Index(text, "rules:")] + fmt.Sprintf("rules:\n  - name: mine\n    rule: %s\n", source)
	return must[*policies.Policy](s.t)(policies.Parse("test.yaml", []byte(text))).Rules
}
