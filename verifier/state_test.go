package verifier

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/node/evidence"
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

func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	m.init()
	for i := range int64(3 * maxCheckpoints) {
		m.remember("log", i, []byte(fmt.Sprint(i)))
		m.remember("log", i, []byte("another of the same size"))
	}
	list := m.Checkpoints["log"]
	if len(list) != maxCheckpoints || list[0].Size != 2*maxCheckpoints || string(list[0].Note) != fmt.Sprint(2*maxCheckpoints) {
		t.Errorf("%d checkpoints, the first %v", len(list), list[0])
	}
	for i := range maxWithdrawals {
		if err := m.withdraw("p", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.withdraw("p", []byte("0")); err != nil {
		t.Errorf("one that is known already: %v", err)
	}
	// To forget a withdrawal would be to accept what was withdrawn.
	if err := m.withdraw("p", []byte("one more")); err == nil {
		t.Error("there is no bound")
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
	if left := must[[]string](t)(filepath.Glob(filepath.Join(dir, ".new-*"))); len(left) > 0 {
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
