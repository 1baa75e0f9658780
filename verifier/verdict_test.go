package verifier

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// fixed replaces what differs from run to run: the throw-away keys.
func fixed(s string) string {
	s = strings.ReplaceAll(s, keyID(serverKey()), "sha256:(key)")
	return regexp.MustCompile(`SHA-256 [0-9a-f]{64}`).ReplaceAllLiteralString(s, "SHA-256 (key)")
}

func goldenLines(t *testing.T, name string, v *Verdict) {
	t.Helper()
	vectors.Golden(t, filepath.Join("testdata", name), []byte(fixed(strings.Join(v.Lines(), "\n")+"\n")))
}

// TestLines holds what people read.
func TestLines(t *testing.T) {
	s := newTPMScene(t)
	v, err := s.appraise(checks)
	if err != nil {
		t.Fatal(err)
	}
	goldenLines(t, "accepted.txt", v)

	s = newTPMScene(t)
	s.boot[4] = event(12, "init=/bin/sh")
	v, _ = s.appraise(checks)
	goldenLines(t, "refused.txt", v)

	s = newTPMScene(t)
	v, err = Replay(context.Background(), s.recording(), t0, s.options())
	if err != nil {
		t.Fatal(err)
	}
	goldenLines(t, "historical.txt", v)
}

// recording is the scene as a file would keep it.
func (s *scene) recording() *Recording {
	in := s.input()
	return &Recording{
		URL: "https://node.test", Time: s.now, Nonce: in.Nonce, SPKI: in.SPKI,
		Document: must[[]byte](s.t)(in.Document.Marshal()),
	}
}

// TestSentence: the word "verified" is for genuine, confidential machines that
// every check accepted, and for nothing else.
func TestSentence(t *testing.T) {
	for _, isolation := range []hardware.Isolation{hardware.Confidential, hardware.None, ""} {
		for _, simulated := range []bool{false, true} {
			for _, refused := range []bool{false, true} {
				for _, historical := range []bool{false, true} {
					v := &Verdict{
						Time: t0, Historical: historical,
						Claims:  &hardware.Claims{Platform: "sev-snp", Isolation: isolation, Simulated: simulated},
						Release: &Release{Product: "hello", Version: "1"},
					}
					if refused {
						v.Rejection = hardware.Refuse("receipt/quorum", "one of two")
					}
					s := v.Sentence()
					want := isolation == hardware.Confidential && !simulated && !refused
					if strings.Contains(s, "verified") != want {
						t.Errorf("isolation %q, simulated %v, refused %v: %q", isolation, simulated, refused, s)
					}
					if !want && !refused && !strings.Contains(s, "measured, not confidential: ") {
						t.Errorf("isolation %q, simulated %v: %q", isolation, simulated, s)
					}
					if strings.HasPrefix(s, "HISTORICAL") != historical {
						t.Errorf("historical %v: %q", historical, s)
					}
				}
			}
		}
	}
	if s := (&Verdict{}).Sentence(); strings.Contains(s, "verified") {
		t.Errorf("an empty verdict says %q", s)
	}
}

// TestRealMachine appraises a report that a real chip signed. It was made for
// nobody's challenge, so that its user data binds nothing: this is the whole
// list but for that check.
func TestRealMachine(t *testing.T) {
	report := vectors.Evidence(t, "sev-snp/report-milan-v2.bin")
	vcek := vectors.Evidence(t, "sev-snp/report-milan-v2.vcek.der")

	s := newScene(t)
	s.now = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	s.first, s.cosigned = s.now.Add(-48*time.Hour), s.now.Add(-time.Hour)
	hexAt := func(at, n int) statement.Register {
		return statement.Register{OneOf: []string{hex.EncodeToString(report[at : at+n])}}
	}
	// SEV-SNP ABI (56860), ATTESTATION_REPORT.
	s.rel().Measurements[0].Registers = map[string]statement.Register{
		"launchDigest": hexAt(0x90, 48),
		"guestPolicy":  {OneOf: []string{hex.EncodeToString(binary.BigEndian.AppendUint64(nil, binary.LittleEndian.Uint64(report[8:])))}},
		"vmpl":         {OneOf: []string{hex.EncodeToString(binary.BigEndian.AppendUint32(nil, binary.LittleEndian.Uint32(report[0x30:])))}},
		"hostData":     hexAt(0xc0, 32),
		"idKeyDigest":  hexAt(0xe0, 48),
	}
	s.speak()
	s.policy.Platforms[0] = policies.Platform{Platform: "sev-snp", Isolation: hardware.Confidential,
		MinimumTCB: policies.TCB{Bootloader: 3, SNP: 8, Microcode: 115}}
	s.edit = func(d *evidence.Document) {
		d.Report = report
		d.Endorsements = []evidence.Endorsement{{Type: "vcek", Data: vcek}}
	}
	_, err := s.appraise(checks)
	wantCode(t, err, "binding/user-data")

	s.log = &tree{}
	unbound := slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return c.name == "user data" })
	v, err := s.appraise(unbound)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines(v))
	}
	if want := "verified: this connection ends inside a sev-snp machine that runs hello-inference 1.2.0"; v.Sentence() != want {
		t.Errorf("sentence %q, want %q", v.Sentence(), want)
	}
	if !v.Confidential() || v.Claims.Simulated {
		t.Errorf("claims %+v", v.Claims)
	}
}

// TestUnwitnessed: a log without witnesses has no clock, and the verdict says
// that nobody watches it.
func TestUnwitnessed(t *testing.T) {
	s := newScene(t)
	text := "log " + vkey(origin, algLog, key("log").Public().(ed25519.PublicKey)) + "\nquorum none\n"
	s.policy.Logs = []*receipt.Policy{must[*receipt.Policy](t)(receipt.ParsePolicy(text, true))}
	s.policy.Receipt = policies.ReceiptAges{Unchecked: "nobody dates it"}
	s.witnesses = nil
	v, err := s.appraise(checks)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines(v))
	}
	if v.Checks[11].Result != Unchecked || !strings.Contains(strings.Join(v.Notes, "\n"), "nobody witnesses the log") {
		t.Errorf("%+v, notes %q", v.Checks[11], v.Notes)
	}
	if m := must[Memory](t)(s.state.View()); m.Newest != 0 {
		t.Errorf("a time is remembered of a log without a clock: %d", m.Newest)
	}

	// A policy in code that demands ages of such a log gets a refusal.
	s.log = &tree{}
	s.state = nil
	s.policy.Receipt = policies.ReceiptAges{MaxAge: time.Hour}
	_, err = s.appraise(checks)
	wantCode(t, err, "current/receipt-stale")
	s.log = &tree{}
	s.policy.Receipt = policies.ReceiptAges{MaxAge: time.Hour, MinAge: time.Second}
	_, err = s.appraise(checks)
	wantCode(t, err, "receipt/too-young")

	// And evidence without a nonce cannot be dated by it.
	s.log = &tree{}
	s.policy.Receipt = policies.ReceiptAges{Unchecked: "nobody dates it"}
	s.asked, s.dated, s.datedBy = nil, t0, nil
	_, err = s.appraise(checks)
	wantCode(t, err, "current/evidence-undated")
}

// TestUncheckedSaysWhy: what the policy leaves out stands in the verdict.
func TestUncheckedSaysWhy(t *testing.T) {
	s := newScene(t)
	s.relaxed()
	s.policy.Receipt = policies.ReceiptAges{Unchecked: "no receipts"}
	s.policy.Withdrawers = policies.Withdrawers{Unchecked: "no withdrawals"}
	v, err := s.appraise(checks)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range v.Checks {
		if c.Result == Unchecked {
			got[c.Name] = c.Saw
		}
	}
	want := map[string]string{
		"cooling-off": "no receipts", "receipt age": "no receipts", "channel": "not in this test",
		"rebuilt": "not in this test", "withdrawals": "no withdrawals", "machines": "tests have no machines",
	}
	if len(got) != len(want) {
		t.Errorf("unchecked: %v", got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
}

// TestEmptyPolicy: a policy that says nothing accepts nothing.
func TestEmptyPolicy(t *testing.T) {
	s := newScene(t)
	s.policy = &policies.Policy{}
	_, err := s.appraise(checks)
	wantCode(t, err, "policy/platform")
	_, err = Appraise(ctx, s.input(), Options{})
	wantCode(t, err, "policy/missing")
	_, err = Appraise(ctx, Input{}, s.options())
	wantCode(t, err, "evidence/missing")

	// Section by section: each that is left empty refuses by itself.
	for _, tt := range []struct {
		name  string
		code  hardware.Code
		empty func(*policies.Policy)
	}{
		{"publishers", "statement/publisher", func(p *policies.Policy) { p.Publishers = nil }},
		{"product", "statement/product", func(p *policies.Policy) { p.Product = "" }},
		{"logs", "receipt/log", func(p *policies.Policy) { p.Logs = nil }},
		{"receipt", "current/receipt-stale", func(p *policies.Policy) { p.Receipt = policies.ReceiptAges{} }},
		{"rebuilders", "rebuild/threshold", func(p *policies.Policy) { p.Rebuilders = policies.Rebuilders{} }},
		{"channel", "current/channel-signer", func(p *policies.Policy) { p.Channel = policies.Channel{} }},
		{"machines", "machines/unlisted", func(p *policies.Policy) { p.Machines = policies.Machines{} }},
		{"platforms", "policy/platform", func(p *policies.Policy) { p.Platforms = nil }},
		{"roots", "hardware/sev-snp/ark-unknown", func(p *policies.Policy) { p.Platforms[0].SimulatedRoots = nil }},
		{"isolation", "policy/isolation", func(p *policies.Policy) { p.Platforms[0].Isolation = "" }},
		{"withdrawers", "policy/malformed", func(p *policies.Policy) { p.Withdrawers = policies.Withdrawers{} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.empty(s.policy)
			_, err := s.appraise(checks)
			wantCode(t, err, tt.code)
		})
	}
}

// TestDissent: a rebuilder who got something else does not outvote those whom
// the policy counts, and is heard.
func TestDissent(t *testing.T) {
	s := newScene(t)
	other := s.rebuildOf()
	r := other.Predicate.(*statement.Rebuild)
	r.Outcome = statement.NotReproduced
	r.Got = []statement.Reference{{Name: "uki.efi", Digest: statement.DigestOf([]byte("other bits"))}}
	explanation := statement.DigestOf([]byte("explanation"))
	r.Explanation = &explanation
	s.rebuilds = append(s.rebuilds, said{statement: other, by: key("second rebuilder")})
	v, err := s.appraise(checks)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines(v))
	}
	if want := "note: second rebuilder built it from source and got something else"; !strings.Contains(lines(v), want) {
		t.Errorf("no %q in\n%s", want, lines(v))
	}
	s.log, s.state = &tree{}, nil
	s.policy.Rebuilders.Threshold = 2
	_, err = s.appraise(checks)
	wantCode(t, err, "rebuild/not-reproduced")
}

// TestMissingRegister: a register that one side leaves out is never taken as
// any value.
func TestMissingRegister(t *testing.T) {
	s := newScene(t)
	forget := slices.Insert(slices.Clone(checks), 1, check{"forget", func(_ context.Context, a *appraisal) finding {
		delete(a.claims.Registers, "hostData")
		return pass("")
	}})
	_, err := s.appraise(forget)
	wantCode(t, err, "registers/missing")
	m := s.rel().Measurements[0]
	delete(m.Registers, "vmpl")
	claims := &hardware.Claims{Registers: map[string]string{}}
	for name, r := range m.Registers {
		claims.Registers[name] = r.OneOf[0]
	}
	claims.Registers["vmpl"] = "00000000"
	if differ, missing := differing(m, claims); len(differ) > 0 || !slices.Equal(missing, []string{"vmpl"}) {
		t.Errorf("differ %v, missing %v", differ, missing)
	}
}

func TestReplay(t *testing.T) {
	// At another time than its own a recording is judged by that time.
	s := newScene(t)
	r := s.recording()
	opts := s.options()
	_, err := Replay(ctx, r, t0.Add(48*time.Hour), opts)
	wantCode(t, err, "current/channel-expired")
	if _, err := Replay(ctx, r, time.Time{}, opts); err == nil || rejection(err) != nil {
		t.Errorf("without a time: %v", err)
	}
	// History neither reads nor writes what the client remembers.
	opts.State = brokenState{}
	if _, err := Replay(ctx, r, t0, opts); err != nil {
		t.Error(err)
	}
	// What the file says of the moment still has to fit.
	r.SPKI = newSPKI()
	_, err = Replay(ctx, r, t0, opts)
	wantCode(t, err, "binding/tls-key")
	r = newScene(t).recording()
	r.Nonce = &[32]byte{}
	_, err = Replay(ctx, r, t0, opts)
	wantCode(t, err, "binding/challenge")
	r.Document = []byte("{}")
	_, err = Replay(ctx, r, t0, opts)
	wantCode(t, err, "evidence/malformed")
}

func TestParseRecording(t *testing.T) {
	good := string(must[[]byte](t)(newScene(t).recording().Marshal()))
	if _, err := ParseRecording([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":          "",
		"another format": strings.Replace(good, "recording/v1", "recording/v2", 1),
		"unknown member": strings.Replace(good, `{`, `{"x":1,`, 1),
		"short nonce":    strings.Replace(good, `"nonce":"AQID`, `"nonce":"AQIDAQID`, 1),
		"no SPKI":        strings.Replace(good, `"spki"`, `"spky"`, 1),
		"a document":     string(must[[]byte](t)(newScene(t).document().Marshal())),
		"too large":      good + strings.Repeat(" ", MaxRecordingBytes),
	} {
		if r, err := ParseRecording([]byte(bad)); err == nil {
			t.Errorf("%s: accepted %v", name, r)
		}
	}
}

// TestJSON holds the verdict's members.
func TestJSON(t *testing.T) {
	s := newScene(t)
	s.rebuilds = nil
	v, err := s.appraise(checks)
	if err == nil {
		t.Fatal("accepted")
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(must[[]byte](t)(json.Marshal(v)), &got); err != nil {
		t.Fatal(err)
	}
	for member, want := range map[string]string{
		"accepted": "false", "historical": "false", "isolation": `"none"`, "policy": `"test"`, "time": `"2026-11-20T12:00:00Z"`,
		"rejection": `{"code":"rebuild/threshold","detail":"0 of the policy's rebuilders got the same bits; it demands 1"}`,
	} {
		if string(got[member]) != want {
			t.Errorf("%s: %s, want %s", member, got[member], want)
		}
	}
	var list []Check
	if err := json.Unmarshal(got["checks"], &list); err != nil || !slices.Equal(list, v.Checks) {
		t.Errorf("checks %s: %v", got["checks"], err)
	}
}

// TestCancelled: whoever does not want to know any more gets no verdict.
func TestCancelled(t *testing.T) {
	s := newScene(t)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if v, err := Appraise(cancelled, s.input(), s.options()); v != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", v, err)
	}
}
