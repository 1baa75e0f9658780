package verifier

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// states are the implementations of State, which behave alike.
var states = map[string]func(*testing.T) State{
	"memory": func(*testing.T) State { return &MemoryState{} },
	"folder": func(t *testing.T) State { return must[*DirState](t)(OpenDir(filepath.Join(t.TempDir(), "state"))) },
}

// TestStateLearns: what an accepted and what a refused verdict leave behind.
func TestStateLearns(t *testing.T) {
	for name, open := range states {
		t.Run(name, func(t *testing.T) {
			state := open(t)
			s := newScene(t)
			s.state = state
			if _, err := s.appraise(checks); err != nil {
				t.Fatal(err)
			}
			m := must[Memory](t)(state.View())
			vkey := s.policy.Logs[0].LogVerifierKey()
			if len(m.Checkpoints[vkey]) != 1 || m.Checkpoints[vkey][0].Size != s.log.size() {
				t.Errorf("checkpoints %v", m.Checkpoints)
			}
			if m.Newest != s.cosigned.Unix() || m.Epochs["hello-inference"] != 3 || m.Channels["hello-inference/stable"].Sequence != 1 {
				t.Errorf("remembered %+v", m)
			}

			// A refused verdict: what was signed is remembered, the epoch is not.
			log := s.log
			s = newScene(t)
			s.state, s.log = state, log
			s.rel().SecurityEpoch = 4
			s.channel = &said{statement: s.channelOf(2), by: key("channel")}
			withdraw(s, releaseID(s), nil)
			_, err := s.appraise(checks)
			wantCode(t, err, "current/withdrawn")
			m = must[Memory](t)(state.View())
			if m.Epochs["hello-inference"] != 3 || m.Channels["hello-inference/stable"].Sequence != 2 || len(m.Withdrawals["hello-inference"]) != 1 {
				t.Errorf("remembered %+v", m)
			}

			// And so the withdrawal counts when it is no longer shown.
			s = newScene(t)
			s.state, s.log = state, log
			s.rel().SecurityEpoch = 4
			s.speak()
			s.channel = &said{statement: s.channelOf(3), by: key("channel")}
			_, err = s.appraise(checks)
			wantCode(t, err, "current/withdrawn")
		})
	}
}

// TestForkIsKept: both notes of a fork are kept, signed, in files.
func TestForkIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	state := must[*DirState](t)(OpenDir(dir))
	s := newScene(t)
	s.state = state
	rememberThisTree(s, 1)
	s.witnesses = []string{"w1"}
	_, err := s.appraise(checks)
	wantCode(t, err, "receipt/fork")
	files := must[[]string](t)(filepath.Glob(filepath.Join(dir, "forks", "*.note")))
	if len(files) != 2 {
		t.Fatalf("kept %q", files)
	}
	var two [2]*receipt.Checkpoint
	for i, f := range files {
		if !strings.Contains(err.Error(), f) {
			t.Errorf("the refusal does not say that %s was kept: %v", f, err)
		}
		two[i] = must[*receipt.Checkpoint](t)(s.policy.Logs[0].OpenUnwitnessed(must[[]byte](t)(os.ReadFile(f))))
	}
	if !receipt.Fork(two[0], two[1]) {
		t.Error("what was kept is no fork")
	}
	// The history that was seen first stays the one to compare with.
	m := must[Memory](t)(state.View())
	if len(m.Checkpoints[s.policy.Logs[0].LogVerifierKey()]) != 1 {
		t.Errorf("remembered %v", m.Checkpoints)
	}
	memory := &MemoryState{}
	s = newScene(t)
	s.state = memory
	rememberThisTree(s, 1)
	_, err = s.appraise(checks)
	wantCode(t, err, "receipt/fork")
	if f := memory.Forks(); len(f) != 1 || bytes.Equal(f[0].Notes[0], f[0].Notes[1]) {
		t.Errorf("kept %v", f)
	}
}

// head is the form of a checkpoint; nothing in it is signed.
func head(size int64, root string) []byte {
	hash := sha256.Sum256([]byte(root))
	return fmt.Appendf(nil, "log.test\n%d\n%s\n\n— log.test AAAAAAAA\n", size, base64.StdEncoding.EncodeToString(hash[:]))
}

func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	m.init()
	for i := int64(1); i <= 3*maxCheckpoints; i++ {
		for range 2 {
			if !m.remember("log", i, head(i, "a"), false) {
				t.Fatalf("checkpoint %d contradicts itself", i)
			}
		}
		if m.remember("log", i, head(i, "b"), true) {
			t.Errorf("another root of size %d contradicts nothing", i)
		}
	}
	list := m.Checkpoints["log"]
	if len(list) != maxCheckpoints || list[0].Size != 2*maxCheckpoints+1 || !bytes.Equal(list[0].Note, head(2*maxCheckpoints+1, "a")) {
		t.Errorf("%d checkpoints, the first %v", len(list), list[0])
	}

	s := newScene(t)
	var leaves [][]byte
	for i := range maxWithdrawals + 1 {
		w := withdraw(s, statement.DigestOf([]byte(fmt.Sprint(i))), nil)
		leaves = append(leaves, s.leaf(*w))
	}
	if err := m.withdraw("p", leaves[:maxWithdrawals]); err != nil {
		t.Fatal(err)
	}
	if err := m.withdraw("p", leaves[:1]); err != nil || len(m.Withdrawals["p"]) != maxWithdrawals {
		t.Errorf("one that is known already: %v, %d remembered", err, len(m.Withdrawals["p"]))
	}
	// Anybody can put another signature beside a payload, and an ECDSA one that
	// verifies.
	forged := s.withdrawals[0]
	forged.forged = true
	if err := m.withdraw("p", [][]byte{s.leaf(forged)}); err != nil || len(m.Withdrawals["p"]) != maxWithdrawals {
		t.Errorf("one that is known under another signature: %v, %d remembered", err, len(m.Withdrawals["p"]))
	}
	// To forget a withdrawal would be to accept what was withdrawn.
	if err := m.withdraw("p", leaves[maxWithdrawals:]); err == nil {
		t.Error("there is no bound")
	}
}

// TestLogCannotFlushTheMemory: a log that signs sizes without end does not make
// a client forget a checkpoint that witnesses cosigned, and so what it forks.
func TestLogCannotFlushTheMemory(t *testing.T) {
	s := newScene(t)
	s.log = &tree{}
	s.log.add(t, []byte("another history"))
	if _, err := s.appraise(checks); err != nil {
		t.Fatal(err)
	}
	log := key("log")
	flood := newScene(t)
	flood.state = s.state
	flood.log.add(t, []byte("so that its size is another"))
	flood.edit = func(d *evidence.Document) {
		for i := range int64(2 * maxCheckpoints) {
			text := fmt.Sprintf("%s\n%d\n%s\n", origin, 1<<40+i, base64.StdEncoding.EncodeToString(make([]byte, 32)))
			note := text + "\n" + signatureLine(origin, algLog, log.Public().(ed25519.PublicKey), ed25519.Sign(log, []byte(text)))
			r := receipt.Transparent{Leaf: []byte("{}"), Receipts: []string{string(receipt.FormatProof(0, nil, []byte(note)))}}
			raw := must[[]byte](t)(r.Marshal())
			if i%2 == 0 {
				d.Rebuilds = append(d.Rebuilds[:min(len(d.Rebuilds), 63)], raw)
			} else {
				d.Withdrawals = append(d.Withdrawals[:min(len(d.Withdrawals), 63)], raw)
			}
		}
	}
	_, err := flood.appraise(checks)
	wantCode(t, err, "current/withdrawal-malformed")
	if n := len(must[Memory](t)(s.state.View()).Checkpoints[s.policy.Logs[0].LogVerifierKey()]); n != maxCheckpoints {
		t.Errorf("%d checkpoints are remembered", n)
	}

	fork := newScene(t)
	fork.state = s.state
	_, err = fork.appraise(checks)
	wantCode(t, err, "receipt/fork")
}

// TestWitnessedLater: what the log alone had signed becomes worth keeping when a
// quorum cosigns it.
func TestWitnessedLater(t *testing.T) {
	var m Memory
	m.init()
	m.remember("log", 5, head(5, "a"), false)
	m.remember("log", 5, append(head(5, "a"), "— w1 AAAAAAAA\n"...), true)
	m.remember("log", 5, head(5, "a"), false)
	if list := m.Checkpoints["log"]; len(list) != 1 || !list[0].Witnessed || !strings.Contains(string(list[0].Note), "w1") {
		t.Errorf("remembered %v", list)
	}
}

// TestForksAreBounded: a log can fork as often as it likes.
func TestForksAreBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	state := must[*DirState](t)(OpenDir(dir))
	fork := func(i int) Fork {
		return Fork{"log.test", 7, [2][]byte{head(7, "a"), head(7, fmt.Sprint(i))}}
	}
	n := 0
	for ; n < 3*maxForks; n++ {
		if _, err := state.KeepFork(fork(n)); err != nil {
			break
		}
	}
	files := must[[]string](t)(filepath.Glob(filepath.Join(dir, "forks", "*")))
	if len(files) != 2*maxForks || n != 2*maxForks-1 {
		t.Errorf("%d forks in %d files were kept", n, len(files))
	}
	if _, err := state.KeepFork(fork(0)); err != nil {
		t.Errorf("one that is kept already: %v", err)
	}
	if _, err := state.KeepFork(fork(n)); err == nil || !strings.Contains(err.Error(), "move them away") {
		t.Errorf("one more: %v", err)
	}
}

// TestOvertaken: two verdicts at the same time have not seen each other's. What
// one has learned by the time that the other is to be remembered counts for it.
func TestOvertaken(t *testing.T) {
	rehearsal := newScene(t)
	rehearsal.document()
	forked := forkedTree(rehearsal, rehearsal.log.size())
	vkey := rehearsal.policy.Logs[0].LogVerifierKey()
	withdrawn := rehearsal.leaf(*withdraw(rehearsal, releaseID(rehearsal), nil))
	other := rehearsal.leaf(*withdraw(rehearsal, statement.DigestOf([]byte("other")), nil))

	tests := []struct {
		name  string
		code  hardware.Code // empty: accepted all the same
		learn func(*Memory)
	}{
		{"nothing", "", nil},
		{"another history", "receipt/fork", func(m *Memory) {
			m.remember(vkey, forked.size(), forked.checkpoint(t, t0.Add(-2*time.Hour), "w1"), false)
		}},
		{"a later channel statement", "current/channel-rollback", func(m *Memory) {
			m.Channels["hello-inference/stable"] = ChannelSeen{Sequence: 2, Identity: "later"}
		}},
		{"another channel statement of that number", "current/channel-fork", func(m *Memory) {
			m.Channels["hello-inference/stable"] = ChannelSeen{Sequence: 1, Identity: "another"}
		}},
		{"an epoch", "current/epoch", func(m *Memory) { m.Epochs["hello-inference"] = 4 }},
		{"a withdrawal", "current/withdrawn", func(m *Memory) { m.Withdrawals["hello-inference"] = [][]byte{withdrawn} }},
		{"a withdrawal of something else", "", func(m *Memory) { m.Withdrawals["hello-inference"] = [][]byte{other} }},
	}
	for _, tt := range tests {
		for name, open := range states {
			t.Run(tt.name+" in "+name, func(t *testing.T) {
				s := newScene(t)
				s.state = &learning{State: open(t), between: tt.learn}
				v, err := s.appraise(checks)
				if tt.code != "" {
					wantCode(t, err, tt.code)
				} else if err != nil {
					t.Errorf("%v\n%s", err, lines(v))
				}
			})
		}
	}
}

// TestOvertakenForEver: a memory that never holds still gives no verdict.
func TestOvertakenForEver(t *testing.T) {
	s := newScene(t)
	s.state = contradicting{}
	if v, err := s.appraise(checks); v != nil || !errors.Is(err, errOvertaken) {
		t.Errorf("got %v, %v", v, err)
	}
}

// contradicting remembers nothing when it is asked, and a later epoch when it is
// told something.
type contradicting struct{ brokenState }

func (contradicting) Update(f func(*Memory)) error {
	m := Memory{Epochs: map[string]int64{"hello-inference": 9}}
	m.init()
	f(&m)
	return nil
}

// TestLargeState: a file that could not be read again is not written.
func TestLargeState(t *testing.T) {
	dir := t.TempDir()
	state := must[*DirState](t)(OpenDir(dir))
	err := state.Update(func(m *Memory) { m.Withdrawals["p"] = [][]byte{make([]byte, maxStateBytes)} })
	if err == nil || !strings.Contains(err.Error(), "a folder of its own") {
		t.Errorf("got %v", err)
	}
	if _, err := OpenDir(dir); err != nil {
		t.Error(err)
	}
}

// TestDirStateTogether: many users of one folder undo nothing of one another's.
func TestDirStateTogether(t *testing.T) {
	dir := t.TempDir()
	const users, each = 4, 10
	var wg sync.WaitGroup
	for range users {
		s := must[*DirState](t)(OpenDir(dir))
		wg.Go(func() {
			for range each {
				if err := s.Update(func(m *Memory) { m.Epochs["p"]++ }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m := must[Memory](t)(must[*DirState](t)(OpenDir(dir)).View())
	if m.Epochs["p"] != users*each {
		t.Errorf("%d of %d updates are left", m.Epochs["p"], users*each)
	}
	if left := must[[]string](t)(filepath.Glob(filepath.Join(dir, ".beside-*"))); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestDamagedState: to begin anew silently would be to forget on command.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	s := newScene(t)
	s.state = must[*DirState](t)(OpenDir(dir))
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"epochs":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := s.appraise(checks); v != nil || err == nil || rejection(err) != nil {
		t.Errorf("got %v, %v; want an error that is no verdict", v, err)
	}
	if _, err := OpenDir(dir); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("opening: %v", err)
	}
}

// TestUnwritableState: a verdict that cannot be remembered is not given.
func TestUnwritableState(t *testing.T) {
	s := newScene(t)
	s.state = brokenState{}
	if v, err := s.appraise(checks); v != nil || err == nil || rejection(err) != nil {
		t.Errorf("got %v, %v; want an error that is no verdict", v, err)
	}
	// A refusal stays one, and says what could not be done.
	s = newScene(t)
	s.state = brokenState{}
	s.edit = func(d *evidence.Document) {
		forked := forkedTree(s, s.log.size())
		d.Rebuilds[0] = editTransparent(s, d.Rebuilds[0], func(t *receipt.Transparent) {
			t.Receipts = append(t.Receipts, forked.receipt(s.t, 0, forked.checkpoint(s.t, s.cosigned, "w2")))
		})
	}
	v, err := s.appraise(checks)
	wantCode(t, err, "receipt/fork")
	if n := strings.Join(v.Notes, "\n"); !strings.Contains(n, "evidence of the fork") || !strings.Contains(n, "remembering") {
		t.Errorf("notes %q", n)
	}
}

type brokenState struct{}

func (brokenState) View() (Memory, error)         { return Memory{}, nil }
func (brokenState) Update(func(*Memory)) error    { return os.ErrPermission }
func (brokenState) KeepFork(Fork) (string, error) { return "", os.ErrPermission }

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"log.example/vitrine":    "log.example_vitrine",
		"../../etc/passwd":       "_._.._etc_passwd",
		".hidden":                "_hidden",
		strings.Repeat("a", 200): strings.Repeat("a", 80),
		"ü":                      "__",
	} {
		if got := fileName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestNoState: without a State every verdict stands alone, and says so.
func TestNoState(t *testing.T) {
	s := newScene(t)
	s.state = nil
	v, err := s.appraise(checks)
	if err != nil {
		t.Fatal(err)
	}
	if saw := v.Checks[10].Saw; !strings.Contains(saw, "none is remembered") {
		t.Errorf("one history: %q", saw)
	}
}
