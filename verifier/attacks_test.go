package verifier

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// attack is a way to cheat, beside its positive twin: the scene that arrange
// sets is accepted, and once attack has changed it as well it is refused with
// code. Where only is set, that check is the only thing in the way: without it
// the attack gets through.
type attack struct {
	name    string
	code    hardware.Code
	only    string
	arrange func(*scene)
	attack  func(*scene)
}

var attacks = []attack{
	// Genuine hardware.
	{
		name: "a report under somebody else's root", code: "hardware/sev-snp/ark-unknown", only: "hardware",
		attack: func(s *scene) { s.chip = attackersChip(s.t) },
	},
	{
		name: "a report that was changed", code: "hardware/sev-snp/report-signature",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Report[0x90] ^= 1 } },
	},
	{
		name: "a platform that the policy does not name", code: "policy/platform",
		attack: func(s *scene) { s.policy.Platforms[0].Platform = "tpm" },
	},
	{
		name: "a platform that nobody can appraise", code: "hardware/unknown-platform",
		attack: func(s *scene) {
			s.policy.Platforms[0].Platform = "tdx"
			s.edit = func(d *evidence.Document) { d.Platform = "tdx" }
		},
	},
	{
		name: "old firmware", code: "hardware/sev-snp/minimum-tcb-snp",
		attack: func(s *scene) { s.policy.Platforms[0].MinimumTCB.SNP = 255 },
	},
	{
		name: "a machine without isolation", code: "policy/isolation", only: "isolation",
		attack: func(s *scene) { s.policy.Platforms[0].Isolation = hardware.Confidential },
	},
	{
		name: "a policy that demands no isolation by saying nothing", code: "policy/isolation", only: "isolation",
		attack: func(s *scene) { s.policy.Platforms[0].Isolation = "" },
	},

	// Binding.
	{
		name: "a replayed nonce", code: "binding/challenge", only: "challenge",
		attack: func(s *scene) { s.answered = [32]byte{9, 9, 9} },
	},
	{
		name: "another's nonce to a client that sent none", code: "binding/challenge",
		arrange: func(s *scene) { s.asked, s.dated = nil, t0.Add(-time.Minute) },
		attack: func(s *scene) {
			s.edit = func(d *evidence.Document) {
				d.Challenge = evidence.ChallengeSource{Nonce: make([]byte, 32)}
			}
		},
	},
	{
		name: "a checkpoint to a client that sent a nonce", code: "binding/challenge",
		attack: func(s *scene) {
			s.edit = func(d *evidence.Document) {
				d.Challenge = evidence.ChallengeSource{Checkpoint: string(s.log.checkpoint(s.t, s.cosigned, "w1", "w2"))}
			}
		},
	},
	{
		name: "a relay that ends TLS itself", code: "binding/tls-key", only: "TLS key",
		attack: func(s *scene) { s.seen = newSPKI() },
	},
	{
		name: "no TLS key", code: "binding/tls-key",
		attack: func(s *scene) { s.seen = []byte{} },
	},
	{
		name: "a genuine report for another key", code: "binding/user-data", only: "user data",
		attack: func(s *scene) {
			s.seen = newSPKI()
			s.edit = func(d *evidence.Document) { d.TLSKey = s.seen }
		},
	},
	{
		name: "another release beside the evidence", code: "binding/user-data",
		attack: func(s *scene) {
			// Of the same bits: only the statement differs.
			other := newScene(s.t)
			other.rel().Version = "1.2.1"
			other.speak()
			d := other.document()
			s.edit = func(e *evidence.Document) {
				e.Release, e.Rebuilds, e.Channel = d.Release, d.Rebuilds, d.Channel
			}
		},
	},
	{
		name: "device evidence that was added", code: "binding/user-data",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.DeviceEvidence = []byte("gpu") } },
	},
	{
		name: "no release statement", code: "statement/missing",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Release = nil } },
	},
	{
		name: "a release statement that is no statement", code: "statement/malformed",
		attack: func(s *scene) {
			s.edit = func(d *evidence.Document) {
				d.Release = editTransparent(s, d.Release, func(t *receipt.Transparent) { t.Leaf = []byte("{}") })
			}
		},
	},
	{
		name: "a channel statement as the release", code: "statement/type",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Release = d.Channel } },
	},
	{
		name: "a file without receipts", code: "receipt/missing",
		attack: func(s *scene) {
			s.edit = func(d *evidence.Document) {
				d.Release = []byte(cutReceipts(string(d.Release)))
			}
		},
	},
	{
		name: "a receipt that is none", code: "receipt/malformed",
		attack: func(s *scene) {
			s.edit = func(d *evidence.Document) {
				d.Release = []byte(strings.Replace(string(d.Release), "c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2", 1))
			}
		},
	},

	// Registers.
	{
		name: "another image", code: "registers/mismatch", only: "registers",
		attack: func(s *scene) { s.report.LaunchDigest[0] ^= 1 },
	},
	{
		name: "another configuration", code: "registers/mismatch", only: "registers",
		attack: func(s *scene) { s.report.HostData[0] ^= 1 },
	},
	{
		name: "the image of one shape with the configuration of another", code: "registers/mismatch", only: "registers",
		arrange: func(s *scene) {
			other := s.report
			other.LaunchDigest[0], other.HostData[0] = 7, 7
			s.rel().Measurements = append(s.rel().Measurements,
				statement.Measurement{Platform: "sev-snp", Shape: "other", Registers: registersOf(other)})
			s.speak()
			s.report = other
		},
		attack: func(s *scene) { s.report.HostData[0] = 0 },
	},
	{
		name: "a release for other platforms alone", code: "registers/platform", only: "registers",
		attack: func(s *scene) {
			registers := map[string]statement.Register{}
			for _, name := range statement.MandatoryRegisters("tpm") {
				registers[name] = statement.Register{OneOf: []string{strings.Repeat("0", 64)}}
			}
			s.rel().Measurements = []statement.Measurement{{Platform: "tpm", Shape: "x", Registers: registers}}
			s.speak()
		},
	},
	{
		name: "a register that the publisher leaves open", code: "registers/any-not-allowed", only: "open registers",
		arrange: func(s *scene) {
			s.rel().Measurements[0].Registers["hostData"] = statement.Register{Any: "the operator's configuration"}
			s.speak()
			s.policy.Platforms[0].Any = []string{"hostData"}
		},
		attack: func(s *scene) { s.policy.Platforms[0].Any = nil },
	},
	{
		// A policy file cannot allow this; one that is made in code can say it.
		name: "an image that the publisher leaves open", code: "registers/any-not-allowed", only: "open registers",
		attack: func(s *scene) {
			s.rel().Measurements[0].Registers["launchDigest"] = statement.Register{Any: "any image"}
			s.speak()
			s.policy.Platforms[0].Any = []string{"launchDigest"}
			s.report.LaunchDigest[0] ^= 1
		},
	},

	// Signed.
	{
		name: "a release by nobody in particular", code: "statement/publisher", only: "publisher",
		attack: func(s *scene) { s.release.by = key("stranger") },
	},
	{
		name: "a release by a rebuilder", code: "statement/publisher", only: "publisher",
		attack: func(s *scene) { s.release.by = key("rebuilder") },
	},
	{
		name: "a release with a signature that is not the publisher's", code: "statement/signature", only: "publisher",
		attack: func(s *scene) { s.release.forged = true },
	},
	{
		name: "another product of the same publisher", code: "statement/product", only: "product",
		arrange: (*scene).relaxed,
		attack:  func(s *scene) { s.rel().Product = "other-product" },
	},

	// Logged.
	{
		name: "a release that was never logged", code: "receipt/inclusion", only: "log",
		attack: func(s *scene) { s.release.unlogged = true },
	},
	{
		name: "a log that the policy does not name", code: "receipt/log",
		attack: func(s *scene) {
			s.policy.Logs = []*receipt.Policy{otherLog(s, strings.ReplaceAll(origin, "log.", "ours."), "log")}
		},
	},
	{
		name: "a log of the same name with another key", code: "receipt/signature",
		attack: func(s *scene) { s.policy.Logs = []*receipt.Policy{otherLog(s, origin, "another log")} },
	},
	{
		name: "a fork that every witness cosigned", code: "receipt/fork", only: "one history",
		arrange: func(s *scene) { rememberThisTree(s, 0) },
		attack:  func(s *scene) { s.state = &MemoryState{}; rememberThisTree(s, 1) },
	},
	{
		name: "a fork that one witness cosigned", code: "receipt/fork",
		arrange: func(s *scene) { rememberThisTree(s, 0) },
		attack: func(s *scene) {
			s.state = &MemoryState{}
			rememberThisTree(s, 1)
			s.witnesses = []string{"w1"}
		},
	},
	{
		name: "two histories in one document", code: "receipt/fork",
		attack: func(s *scene) {
			s.state = nil
			s.edit = func(d *evidence.Document) {
				forked := forkedTree(s, s.log.size())
				d.Rebuilds[0] = editTransparent(s, d.Rebuilds[0], func(t *receipt.Transparent) {
					t.Receipts = append(t.Receipts, forked.receipt(s.t, 0, forked.checkpoint(s.t, s.cosigned, "w2")))
				})
			}
		},
	},
	{
		name: "a receipt without the quorum", code: "receipt/quorum", only: "witnesses",
		arrange: func(s *scene) {
			s.relaxed()
			s.policy.Receipt = policies.ReceiptAges{Unchecked: "not in this test"}
		},
		attack: func(s *scene) { s.witnesses = []string{"w2"} },
	},
	{
		name: "the witnesses of another log of the policy", code: "receipt/quorum",
		arrange: func(s *scene) {
			s.policy.Logs = append(s.policy.Logs, must[*receipt.Policy](s.t)(receipt.ParsePolicy(
				"log "+vkey("other.test", algLog, key("other log").Public().(ed25519.PublicKey))+"\n"+
					"witness w3 "+vkey("w3", algCosig, key("w3").Public().(ed25519.PublicKey))+"\nquorum w3\n", false)))
		},
		attack: func(s *scene) { s.witnesses = []string{"w1", "w3"} },
	},
	{
		name: "cosignatures from the future", code: "receipt/future",
		attack: func(s *scene) { s.first, s.cosigned = t0.Add(2*time.Minute), t0.Add(3*time.Minute) },
	},
	{
		name: "a release of this morning by a stolen key", code: "receipt/too-young", only: "cooling-off",
		attack: func(s *scene) { s.first = t0.Add(-23 * time.Hour) },
	},

	// Current.
	{
		name: "no channel statement", code: "current/channel-missing", only: "channel",
		attack: func(s *scene) { s.channel = nil },
	},
	{
		name: "a channel statement that is none", code: "current/channel-malformed", only: "channel",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Channel = []byte("{}") } },
	},
	{
		name: "a rebuild as the channel statement", code: "statement/type", only: "channel",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Channel = d.Rebuilds[0] } },
	},
	{
		name: "a channel statement by the publisher", code: "current/channel-signer", only: "channel",
		attack: func(s *scene) { s.channel.by = key("publisher") },
	},
	{
		name: "a channel statement with a signature that is not the channel's", code: "current/channel-signature", only: "channel",
		attack: func(s *scene) { s.channel.forged = true },
	},
	{
		name: "a channel statement that was never logged", code: "current/channel-receipt", only: "channel",
		attack: func(s *scene) { s.channel.unlogged = true },
	},
	{
		name: "another channel", code: "current/channel-name", only: "channel",
		attack: func(s *scene) { channelIn(s).Channel = "nightly" },
	},
	{
		name: "the channel of another product", code: "current/channel-name", only: "channel",
		attack: func(s *scene) { channelIn(s).Product = "other-product" },
	},
	{
		name: "a channel statement from the future", code: "current/channel-future", only: "channel",
		attack: func(s *scene) { channelIn(s).IssuedAt = t0.Add(2 * time.Minute) },
	},
	{
		name: "a frozen channel", code: "current/channel-stale", only: "channel",
		arrange: func(s *scene) { channelIn(s).IssuedAt = t0.Add(-24 * time.Hour) },
		attack:  func(s *scene) { channelIn(s).IssuedAt = t0.Add(-24*time.Hour - time.Second) },
	},
	{
		name: "a channel statement past its time", code: "current/channel-expired", only: "channel",
		arrange: func(s *scene) { channelIn(s).NotAfter = t0.Add(time.Second) },
		attack:  func(s *scene) { channelIn(s).NotAfter = t0 },
	},
	{
		name: "a release that is no longer current", code: "current/channel-not-listed", only: "channel",
		attack: func(s *scene) {
			s.channel.statement.Subjects[0].Digest = statement.DigestOf([]byte("a later release"))
		},
	},
	{
		name: "a channel statement before the one that was seen", code: "current/channel-rollback", only: "channel",
		arrange: func(s *scene) { seenChannel(s, 1, "") },
		attack:  func(s *scene) { seenChannel(s, 2, "later") },
	},
	{
		name: "two channel statements of one number", code: "current/channel-fork", only: "channel",
		arrange: func(s *scene) { seenChannel(s, 1, "") },
		attack:  func(s *scene) { s.state = &MemoryState{}; seenChannel(s, 1, "another") },
	},
	{
		name: "a release below the policy's epoch", code: "current/epoch", only: "security epoch",
		arrange: func(s *scene) { s.policy.MinimumEpoch = 3 },
		attack:  func(s *scene) { s.policy.MinimumEpoch = 4 },
	},
	{
		name: "a release below an epoch that was accepted", code: "current/epoch", only: "security epoch",
		arrange: func(s *scene) { update(s, func(m *Memory) { m.Epochs["hello-inference"] = 3 }) },
		attack:  func(s *scene) { update(s, func(m *Memory) { m.Epochs["hello-inference"] = 4 }) },
	},
	{
		name: "a withdrawn release", code: "current/withdrawn", only: "withdrawals",
		arrange: func(s *scene) { withdraw(s, statement.DigestOf([]byte("other")), nil).by = key("withdrawer") },
		attack:  func(s *scene) { withdraw(s, releaseID(s), nil) },
	},
	{
		name: "a withdrawn artefact", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) { withdraw(s, s.release.statement.Subjects[0].Digest, nil) },
	},
	{
		name: "a withdrawn register", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) {
			withdraw(s, statement.DigestOf([]byte("other")), []statement.RegisterValue{
				{Platform: "sev-snp", Register: "launchDigest", Value: s.rel().Measurements[0].Registers["launchDigest"].OneOf[0]}})
		},
	},
	{
		name: "a withdrawal that was never logged", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) { withdraw(s, releaseID(s), nil).unlogged = true },
	},
	{
		name: "a withdrawal that was seen and is kept back", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) {
			w := withdraw(s, releaseID(s), nil)
			leaf := s.leaf(*w)
			s.withdrawals = nil
			update(s, func(m *Memory) { m.Withdrawals["hello-inference"] = [][]byte{leaf} })
		},
	},
	{
		name: "a reinstatement that was never logged", code: "current/withdrawal-malformed", only: "withdrawals",
		arrange: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, time.Hour)
		},
		attack: func(s *scene) { s.withdrawals[1].unlogged = true },
	},
	{
		name: "a reinstatement from before the withdrawal", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, -time.Hour)
		},
	},
	{
		name: "a reinstatement of something else", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, time.Hour)
			s.withdrawals[1].statement.Subjects[0].Digest = statement.DigestOf([]byte("other"))
		},
	},
	{
		// It would outdate every withdrawal that is still to be written.
		name: "a reinstatement from the future", code: "current/withdrawn", only: "withdrawals",
		arrange: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, 3*time.Hour+receipt.Tolerance)
		},
		attack: func(s *scene) {
			w := s.withdrawals[1].statement.Predicate.(*statement.Withdrawal)
			w.Since = w.Since.Add(time.Second)
		},
	},
	{
		// It may have been logged by the measure of another policy.
		name: "a reinstatement that is only remembered", code: "current/withdrawn", only: "withdrawals",
		arrange: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, time.Hour)
		},
		attack: func(s *scene) {
			leaf := s.leaf(s.withdrawals[1])
			s.withdrawals = s.withdrawals[:1]
			update(s, func(m *Memory) { m.Withdrawals["hello-inference"] = [][]byte{leaf} })
		},
	},
	{
		name: "a reinstatement by the publisher", code: "current/withdrawn", only: "withdrawals",
		attack: func(s *scene) {
			withdraw(s, releaseID(s), nil)
			reinstate(s, time.Hour)
			s.withdrawals[1].by = key("publisher")
		},
	},
	{
		name: "a node that is cut off from the log", code: "current/receipt-stale", only: "receipt age",
		arrange: func(s *scene) { s.cosigned = t0.Add(-24 * time.Hour) },
		attack:  func(s *scene) { s.cosigned = t0.Add(-24*time.Hour - time.Second) },
	},
	{
		name: "old evidence without a nonce", code: "current/evidence-stale", only: "evidence age",
		arrange: func(s *scene) { s.asked, s.dated = nil, t0.Add(-10*time.Minute) },
		attack:  func(s *scene) { s.dated = t0.Add(-10*time.Minute - time.Second) },
	},
	{
		name: "old evidence whose checkpoint was cosigned anew", code: "binding/user-data",
		arrange: func(s *scene) { s.asked, s.dated = nil, t0.Add(-time.Minute) },
		attack: func(s *scene) {
			s.dated = t0.Add(-time.Hour)
			s.edit = func(d *evidence.Document) {
				d.Challenge.Checkpoint = string(s.log.checkpoint(s.t, t0, "w1", "w2"))
			}
		},
	},
	{
		name: "evidence that is dated by too few witnesses", code: "current/evidence-undated",
		arrange: func(s *scene) { s.asked, s.dated = nil, t0.Add(-time.Minute) },
		attack:  func(s *scene) { s.datedBy = []string{"w1"} },
	},
	{
		name: "a clock that was set back", code: "current/clock", only: "clock",
		arrange: func(s *scene) { update(s, func(m *Memory) { m.Newest = t0.Add(receipt.Tolerance).Unix() }) },
		attack: func(s *scene) {
			update(s, func(m *Memory) { m.Newest = t0.Add(receipt.Tolerance + time.Second).Unix() })
		},
	},

	// Rebuilt.
	{
		name: "nobody has rebuilt", code: "rebuild/threshold", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds = nil },
	},
	{
		name: "a rebuilder who is somebody else", code: "rebuild/threshold", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds[0].by = key("stranger") },
	},
	{
		name: "the publisher as rebuilder", code: "rebuild/threshold", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds[0].by = key("publisher") },
	},
	{
		name: "one rebuilder twice", code: "rebuild/threshold", only: "rebuilt",
		arrange: func(s *scene) {
			s.policy.Rebuilders.Threshold = 2
			s.rebuilds = append(s.rebuilds, said{statement: s.rebuildOf(), by: key("second rebuilder")})
		},
		attack: func(s *scene) {
			again := s.rebuildOf()
			again.Predicate.(*statement.Rebuild).Builder.Version = "0.1.1"
			s.rebuilds[1] = said{statement: again, by: key("rebuilder")}
		},
	},
	{
		name: "a rebuild that was never logged", code: "rebuild/threshold", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds[0].unlogged = true },
	},
	{
		name: "a rebuild of another release", code: "rebuild/release", only: "rebuilt",
		attack: func(s *scene) {
			other := newScene(s.t)
			other.rel().SecurityEpoch = 2
			s.rebuilds[0].statement = other.rebuildOf()
		},
	},
	{
		name: "a rebuild of other artefacts", code: "rebuild/release", only: "rebuilt",
		attack: func(s *scene) {
			s.rebuilds[0].statement.Subjects[1].Digest = statement.DigestOf([]byte("other bits"))
		},
	},
	{
		name: "a rebuild that says it is of another product", code: "rebuild/release", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds[0].statement.Predicate.(*statement.Rebuild).Product = "other-product" },
	},
	{
		name: "a rebuild of some of the artefacts", code: "rebuild/release", only: "rebuilt",
		arrange: func(s *scene) {
			s.release.statement.Subjects = append(s.release.statement.Subjects,
				statement.Subject{Name: "vmlinuz", Digest: statement.DigestOf([]byte("kernel"))})
			s.speak()
		},
		attack: func(s *scene) { s.rebuilds[0].statement.Subjects = s.rebuilds[0].statement.Subjects[:2] },
	},
	{
		name: "a rebuild that got something else", code: "rebuild/not-reproduced", only: "rebuilt",
		attack: func(s *scene) {
			r := s.rebuilds[0].statement.Predicate.(*statement.Rebuild)
			r.Outcome = statement.NotReproduced
			r.Got = []statement.Reference{{Name: "uki.efi", Digest: statement.DigestOf([]byte("other bits"))}}
			explanation := statement.DigestOf([]byte("explanation"))
			r.Explanation = &explanation
		},
	},
	{
		name: "a rebuild that could not be made", code: "rebuild/threshold", only: "rebuilt",
		attack: func(s *scene) {
			r := s.rebuilds[0].statement.Predicate.(*statement.Rebuild)
			r.Outcome, r.Reason = statement.CouldNotBuild, "a mirror is gone"
		},
	},
	{
		name: "a rebuild that is none", code: "rebuild/malformed", only: "rebuilt",
		attack: func(s *scene) { s.edit = func(d *evidence.Document) { d.Rebuilds[0] = d.Channel } },
	},
	{
		name: "a rebuild with a forged signature", code: "rebuild/malformed", only: "rebuilt",
		attack: func(s *scene) { s.rebuilds[0].forged = true },
	},

	// The rest of the policy.
	{
		name: "a policy that says nothing about machines", code: "machines/unlisted", only: "machines",
		attack: func(s *scene) { s.policy.Machines.Unchecked = "" },
	},
	{
		name: "a rule that is false", code: "rules/failed", only: "rules",
		attack: func(s *scene) { s.policy.Rules = rules(s, `release.version == "1.3.0"`) },
	},
	{
		name: "a rule about what is not there", code: "rules/error", only: "rules",
		attack: func(s *scene) { s.policy.Rules = rules(s, `claims.registers["pcr0"] == ""`) },
	},
}

// TestAttacks: each attack is refused with its code and nothing after the check
// that failed is reached; its twin is accepted.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			twin := newScene(t)
			if a.arrange != nil {
				a.arrange(twin)
			}
			if v, err := twin.appraise(checks); err != nil {
				t.Fatalf("the twin is refused: %v\n%s", err, lines(v))
			}

			s := newScene(t)
			if a.arrange != nil {
				a.arrange(s)
			}
			a.attack(s)
			v, err := s.appraise(checks)
			var r *hardware.Rejection
			if !errors.As(err, &r) || v == nil || v.Rejection != r {
				t.Fatalf("got %v, want a rejection\n%s", err, lines(v))
			}
			if r.Code != a.code {
				t.Fatalf("refused with %v, want %s\n%s", r, a.code, lines(v))
			}
			if _, ok := r.Code.Info(); !ok {
				t.Errorf("the code %s is not in the closed list", r.Code)
			}
			failed := slices.IndexFunc(v.Checks, func(c Check) bool { return c.Result == Fail })
			for i, c := range v.Checks {
				if i < failed && c.Result != Pass && c.Result != Unchecked || i > failed && c.Result != NotReached {
					t.Errorf("check %q ended as %q, and check %q failed", c.Name, c.Result, v.Checks[failed].Name)
				}
			}
			if a.only != "" && v.Checks[failed].Name != a.only {
				t.Errorf("check %q failed, want %q", v.Checks[failed].Name, a.only)
			}
			if strings.Contains(v.Sentence(), "verified") || !strings.HasPrefix(v.Sentence(), "refused: "+string(a.code)) {
				t.Errorf("sentence %q", v.Sentence())
			}
		})
	}
}

// TestDropEachCheck drops each check of the list in turn and shows that an
// attack then gets through. A check whose absence no attack notices would be
// untested, or dead.
func TestDropEachCheck(t *testing.T) {
	for i, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			list := slices.Delete(slices.Clone(checks), i, i+1)
			if c.name == "hardware" {
				// Without claims nothing can go on: dropping this check
				// means to believe whatever root the evidence brings.
				list = slices.Insert(list, 0, check{c.name, believeAnyRoot})
			}
			through := 0
			for _, a := range attacks {
				if a.only != c.name {
					continue
				}
				s := newScene(t)
				if a.arrange != nil {
					a.arrange(s)
				}
				a.attack(s)
				if v, err := s.appraise(list); err != nil {
					t.Errorf("%q is still stopped, by %v\n%s", a.name, err, lines(v))
				}
				through++
			}
			if through == 0 {
				t.Error("no attack needs this check")
			}
		})
	}
}

func believeAnyRoot(_ context.Context, a *appraisal) finding {
	section := *a.policy.Platform(a.doc.Platform)
	section.SimulatedRoots = append(section.SimulatedRoots, mustChips()[1].ARK)
	claims, err := a.verifyHardware(&section)
	if err != nil {
		return fail("hardware/options", "%v", err)
	}
	a.claims = claims
	return pass("believed")
}

// TestSilentCheck: a check that comes to no result refuses.
func TestSilentCheck(t *testing.T) {
	s := newScene(t)
	list := append(slices.Clone(checks), check{"silent", func(context.Context, *appraisal) finding { return finding{} }})
	if v, err := s.appraise(list); err == nil {
		t.Errorf("accepted\n%s", lines(v))
	}
}
