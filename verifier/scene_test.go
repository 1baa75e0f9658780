package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// t0 is the instant at which the tests' verdicts are given.
var t0 = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// key is an Ed25519 key that every run makes again.
func key(name string) ed25519.PrivateKey { return vectors.Key(name) }

func pemOf(t testing.TB, k crypto.Signer) string {
	t.Helper()
	pub, err := statement.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pub.PEM())
}

func indent(s string, n int) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+pad)
}

// chips are made once: their RSA keys are slow.
var chips = sync.OnceValues(func() ([2]*simulated.AMD, error) {
	genuine, err := simulated.NewAMD(t0)
	if err != nil {
		return [2]*simulated.AMD{}, err
	}
	attacker, err := simulated.NewAMD(t0)
	return [2]*simulated.AMD{genuine, attacker}, err
})

func chip(t testing.TB) *simulated.AMD { return must[[2]*simulated.AMD](t)(chips())[0] }

// attackersChip ends in a root that no policy names.
func attackersChip(t testing.TB) *simulated.AMD { return must[[2]*simulated.AMD](t)(chips())[1] }

// vkey writes a key as C2SP signed-note does.
func vkey(name string, alg byte, pub ed25519.PublicKey) string {
	k := append([]byte{alg}, pub...)
	h := sha256.Sum256(append([]byte(name+"\n"), k...))
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(h[:4]), base64.StdEncoding.EncodeToString(k))
}

const (
	origin   = "log.test/vitrine"
	algLog   = 1
	algCosig = 4
)

func signatureLine(name string, alg byte, pub ed25519.PublicKey, sig []byte) string {
	k := append([]byte{alg}, pub...)
	h := sha256.Sum256(append([]byte(name+"\n"), k...))
	return fmt.Sprintf("— %s %s\n", name, base64.StdEncoding.EncodeToString(append(h[:4:4], sig...)))
}

// cosignature is witness's word, at a time of its choice, that it saw text
// (C2SP tlog-cosignature).
func cosignature(witness string, text string, at time.Time) string {
	k := key(witness)
	msg := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at.Unix(), text)
	sig := binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))
	sig = append(sig, ed25519.Sign(k, []byte(msg))...)
	return signatureLine(witness, algCosig, k.Public().(ed25519.PublicKey), sig)
}

// tree is a log in memory.
type tree struct {
	leaves [][]byte
	hashes []tlog.Hash
}

func (l *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *tree) add(t testing.TB, leaf []byte) int64 {
	t.Helper()
	i := int64(len(l.leaves))
	l.hashes = append(l.hashes, must[[]tlog.Hash](t)(tlog.StoredHashes(i, leaf, l))...)
	l.leaves = append(l.leaves, leaf)
	return i
}

func (l *tree) size() int64 { return int64(len(l.leaves)) }

// text is the unsigned checkpoint.
func (l *tree) text(t testing.TB) string {
	t.Helper()
	root := must[tlog.Hash](t)(tlog.TreeHash(l.size(), l))
	return fmt.Sprintf("%s\n%d\n%s\n", origin, l.size(), root)
}

// checkpoint is the tree head, signed by the log and cosigned by witnesses.
func (l *tree) checkpoint(t testing.TB, at time.Time, witnesses ...string) []byte {
	t.Helper()
	text := l.text(t)
	log := key("log")
	out := text + "\n" + signatureLine(origin, algLog, log.Public().(ed25519.PublicKey), ed25519.Sign(log, []byte(text)))
	for _, w := range witnesses {
		out += cosignature(w, text, at)
	}
	return []byte(out)
}

func (l *tree) receipt(t testing.TB, index int64, checkpoint []byte) string {
	t.Helper()
	proof := must[tlog.RecordProof](t)(tlog.ProveRecord(l.size(), index, l))
	return string(receipt.FormatProof(index, proof, checkpoint))
}

// said is a statement on its way into the evidence.
type said struct {
	statement *statement.Statement
	by        crypto.Signer
	unlogged  bool // its receipt is of another leaf
	forged    bool // its signature is a stranger's
}

// scene is a whole situation that the default policy accepts, and knobs to
// change it by. Nothing in it is prepared before document is called.
type scene struct {
	t      testing.TB
	now    time.Time
	policy *policies.Policy
	state  State

	chip   *simulated.AMD
	report simulated.Report

	tpm  *simulated.TPM // quotes in the chip's place, if set
	boot []simulated.Event

	release     said
	rebuilds    []said
	channel     *said
	withdrawals []said

	witnesses       []string  // who cosign
	first, cosigned time.Time // of the release's two receipts
	log             *tree

	asked    *[32]byte // what the client asked with
	answered [32]byte  // what the hardware was asked with
	dated    time.Time // with asked nil: when the challenge was cosigned
	datedBy  []string  // and by whom
	tlsKey   []byte    // of the node
	seen     []byte    // on the connection, if not tlsKey

	edit func(*evidence.Document) // after the hardware signed
}

const shape = "simulated-2"

func launchDigest() [48]byte { return [48]byte(sha384("image 1.2.0")) }

func sha384(s string) []byte {
	h := crypto.SHA384.New()
	h.Write([]byte(s))
	return h.Sum(nil)
}

func registersOf(r simulated.Report) map[string]statement.Register {
	one := func(b []byte) statement.Register {
		return statement.Register{OneOf: []string{hex.EncodeToString(b)}}
	}
	guestPolicy := r.GuestPolicy
	if guestPolicy == 0 {
		guestPolicy = 0x30000
	}
	return map[string]statement.Register{
		"launchDigest": one(r.LaunchDigest[:]),
		"guestPolicy":  one(binary.BigEndian.AppendUint64(nil, guestPolicy)),
		"vmpl":         one(binary.BigEndian.AppendUint32(nil, r.VMPL)),
		"hostData":     one(r.HostData[:]),
		"idKeyDigest":  one(r.IDKeyDigest[:]),
	}
}

func releaseOf(version string, r simulated.Report) *statement.Statement {
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: "uki.efi", Digest: statement.DigestOf([]byte("uki " + version))}},
		Predicate: &statement.Release{
			Product: "hello-inference", Version: version, SecurityEpoch: 3,
			Source:  statement.Source{URI: "https://git.example/hello-inference", Commit: strings.Repeat("a", 40)},
			Recipe:  statement.Reference{Digest: statement.DigestOf([]byte("recipe")), Name: "image.yaml"},
			Lock:    statement.Reference{Digest: statement.DigestOf([]byte("lock")), Name: "image.lock"},
			Builder: statement.Builder{ID: statement.BuilderID, Version: "0.1.0"},
			Volumes: []statement.Volume{{Name: "root", VerityRoot: strings.Repeat("b", 64), SizeBytes: 4096}},
			Measurements: []statement.Measurement{
				{Platform: "sev-snp", Shape: shape, Registers: registersOf(r)},
			},
			NotCovered: []statement.NotCovered{{What: "host-clock", Why: "the host sets it"}},
		},
	}
}

func (s *scene) rel() *statement.Release { return s.release.statement.Predicate.(*statement.Release) }

// rebuildOf says that somebody got what the release has.
func (s *scene) rebuildOf() *statement.Statement {
	payload := must[[]byte](s.t)(s.release.statement.Payload())
	id := statement.IDOf(payload)
	return &statement.Statement{
		Subjects: append([]statement.Subject{{Name: statement.ReleaseSubject, Digest: id.Digest()}}, s.release.statement.Subjects...),
		Predicate: &statement.Rebuild{
			Product: s.rel().Product, Version: s.rel().Version,
			Release: statement.ReleaseRef{Digest: id.Digest()},
			Builder: s.rel().Builder, Outcome: statement.Reproduced,
		},
	}
}

func (s *scene) channelOf(sequence int64) *statement.Statement {
	payload := must[[]byte](s.t)(s.release.statement.Payload())
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: s.rel().Version, Digest: statement.IDOf(payload).Digest()}},
		Predicate: &statement.Channel{
			Product: s.rel().Product, Channel: "stable", Sequence: sequence,
			IssuedAt: s.now.Add(-time.Hour), NotAfter: s.now.Add(48 * time.Hour),
		},
	}
}

func policyText(t testing.TB) string {
	keys := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			fmt.Fprintf(&b, "    - name: %s\n      key: |\n%s\n", n, indent(pemOf(t, key(n)), 8))
		}
		return b.String()
	}
	return `vitrine: policy/v1
name: test
product: hello-inference
logs:
  - policy: |
      log ` + vkey(origin, algLog, key("log").Public().(ed25519.PublicKey)) + `
      witness w1 ` + vkey("w1", algCosig, key("w1").Public().(ed25519.PublicKey)) + `
      witness w2 ` + vkey("w2", algCosig, key("w2").Public().(ed25519.PublicKey)) + `
      group both all w1 w2
      quorum both
publishers:
` + keys("publisher") + `
receipt: {maxAge: 24h, minAge: 24h}
evidence: {maxAge: 10m}
epoch: {minimum: 1}
rebuilders:
  threshold: 1
  keys:
` + keys("rebuilder", "second rebuilder") + `
channel:
  name: stable
  maxAge: 24h
  keys:
` + keys("channel") + `
withdrawers:
` + keys("withdrawer") + `
machines: {unchecked: "tests have no machines"}
platforms:
  - platform: sev-snp
    isolation: none
    minimumTCB: {bootloader: 0, tee: 0, snp: 0, microcode: 0}
    simulatedRoots:
      - |
` + indent(string(chip(t).RootPEM()), 8) + `
    any: []
rules:
  - name: no migration
    rule: release.securityEpoch >= 1 && claims.platform == "sev-snp"
`
}

var serverKey = sync.OnceValue(func() []byte { return newSPKI() })

func newSPKI() []byte {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func newScene(t testing.TB) *scene {
	t.Helper()
	p, err := policies.Parse("test.yaml", []byte(policyText(t)))
	if err != nil {
		t.Fatal(err)
	}
	report := simulated.Report{LaunchDigest: launchDigest()}
	nonce := [32]byte{1, 2, 3}
	s := &scene{
		t: t, now: t0, policy: p, state: &MemoryState{},
		chip: chip(t), report: report,
		release:   said{statement: releaseOf("1.2.0", report), by: key("publisher")},
		witnesses: []string{"w1", "w2"}, datedBy: []string{"w1", "w2"},
		first: t0.Add(-48 * time.Hour), cosigned: t0.Add(-time.Hour),
		log:    &tree{},
		asked:  &nonce,
		tlsKey: serverKey(),
	}
	s.answered = nonce
	s.log.add(t, []byte("an entry of somebody else's"))
	s.speak()
	return s
}

// speak has the channel and the first rebuilder speak about the release as it
// now is; call it again after changing the release.
func (s *scene) speak() {
	s.rebuilds = []said{{statement: s.rebuildOf(), by: key("rebuilder")}}
	s.channel = &said{statement: s.channelOf(1), by: key("channel")}
}

// relaxed leaves unchecked what would also stop an attack on something else.
func (s *scene) relaxed() {
	s.policy.Channel = policies.Channel{Unchecked: "not in this test"}
	s.policy.Rebuilders = policies.Rebuilders{Unchecked: "not in this test"}
	s.channel, s.rebuilds = nil, nil
}

func (s *scene) leaf(x said) []byte {
	s.t.Helper()
	payload := must[[]byte](s.t)(x.statement.Payload())
	leaf := must[[]byte](s.t)(statement.Sign(payload, x.by))
	if x.forged {
		return forge(s, leaf, payload)
	}
	return leaf
}

// document puts everything into the log and has the hardware vouch for it.
func (s *scene) document() *evidence.Document {
	t := s.t
	t.Helper()
	type logged struct {
		said
		leaf  []byte
		index int64
	}
	put := func(x said) logged {
		l := logged{said: x, leaf: s.leaf(x)}
		if !x.unlogged {
			l.index = s.log.add(t, l.leaf)
		}
		return l
	}
	release := put(s.release)
	var rebuilds, withdrawals []logged
	for _, r := range s.rebuilds {
		rebuilds = append(rebuilds, put(r))
	}
	for _, w := range s.withdrawals {
		withdrawals = append(withdrawals, put(w))
	}
	var channel *logged
	if s.channel != nil {
		c := put(*s.channel)
		channel = &c
	}
	s.log.add(t, []byte("another entry of somebody else's"))

	newest := s.log.checkpoint(t, s.cosigned, s.witnesses...)
	transparent := func(l logged, checkpoints ...[]byte) json.RawMessage {
		tr := receipt.Transparent{Leaf: l.leaf}
		for _, c := range checkpoints {
			tr.Receipts = append(tr.Receipts, s.log.receipt(t, l.index, c))
		}
		tr.Receipts = slices.Compact(tr.Receipts) // without cosignatures they are one
		return must[[]byte](t)(tr.Marshal())
	}

	d := &evidence.Document{
		Platform:  "sev-snp",
		Challenge: evidence.ChallengeSource{Nonce: s.answered[:]},
		TLSKey:    s.tlsKey,
		Release:   transparent(release, s.log.checkpoint(t, s.first, s.witnesses...), newest),
	}
	if s.asked == nil {
		d.Challenge = evidence.ChallengeSource{Checkpoint: string(s.log.checkpoint(t, s.dated, s.datedBy...))}
	}
	for _, r := range rebuilds {
		d.Rebuilds = append(d.Rebuilds, transparent(r, newest))
	}
	for _, w := range withdrawals {
		d.Withdrawals = append(d.Withdrawals, transparent(w, newest))
	}
	if channel != nil {
		d.Channel = transparent(*channel, newest)
	}
	if s.tpm != nil {
		s.quote(d, release.leaf)
		return d
	}
	for kind, data := range s.chip.Endorsements() {
		d.Endorsements = append(d.Endorsements, evidence.Endorsement{Type: kind, Data: data})
	}
	report := s.report
	report.ReportData = must[[64]byte](t)(d.UserData(statement.LeafHash(release.leaf)))
	d.Report = must[[]byte](t)(s.chip.Report(report))
	if s.edit != nil {
		s.edit(d)
	}
	return d
}

func (s *scene) input() Input {
	d := s.document()
	seen := s.seen
	if seen == nil {
		seen = s.tlsKey
	}
	return Input{Document: d, Nonce: s.asked, SPKI: seen}
}

func (s *scene) options() Options {
	return Options{Policy: s.policy, State: s.state, Now: func() time.Time { return s.now }}
}

func (s *scene) appraise(list []check) (*Verdict, error) {
	s.t.Helper()
	return appraise(context.Background(), s.input(), s.options(), list, false)
}
