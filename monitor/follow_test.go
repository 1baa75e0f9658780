package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// forkedLog is a log with two histories that have their first entry in common.
// It serves the one that the monitor has followed.
func forkedLog(t *testing.T) (l *handmadeLog, other *history) {
	l = newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	l.with(func() { other = l.served.branch() })
	l.append(sign(t, releaseOf("1.1.0", ""), "publisher").Leaf)
	return l, other
}

// TestFork: a log with two histories, both signed and cosigned, is kept as
// evidence and followed no further, now and later.
func TestFork(t *testing.T) {
	for name, longer := range map[string]bool{"the same size": false, "a longer tree": true} {
		t.Run(name, func(t *testing.T) {
			l, other := forkedLog(t)
			w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
			if err := w.m.follow(t.Context()); err != nil {
				t.Fatal(err)
			}
			followed := l.served.signed
			other.append(sign(t, releaseOf("6.6.6", ""), "publisher").Leaf)
			if longer {
				other.append(sign(t, releaseOf("6.6.7", ""), "publisher").Leaf)
			}
			l.with(func() { l.served = other })

			for range 2 {
				var fork *log.ForkError
				if err := w.m.Run(t.Context(), time.Millisecond); !errors.As(err, &fork) || !strings.Contains(err.Error(), evidenceDir) {
					t.Fatalf("running on a fork: %v", err)
				}
				if err := w.m.Step(t.Context()); !errors.As(err, &fork) {
					t.Fatalf("a step on a fork: %v", err)
				}
				w.expect(Fork)
				w.kill()
			}
			a := w.alerts()[0]
			if len(a.Evidence) != 2 {
				t.Fatalf("the evidence is %v", a.Evidence)
			}
			// Whoever gets the evidence verifies it alone.
			var both [2]*receipt.Checkpoint
			for i, want := range [][]byte{followed, other.signed} {
				note, err := os.ReadFile(filepath.Join(w.c.Dir, a.Evidence[i]))
				if err != nil || string(note) != string(want) {
					t.Fatalf("the evidence %s is %q: %v", a.Evidence[i], note, err)
				}
				if both[i], err = l.policy.OpenCheckpoint(note, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if receipt.Fork(both[0], both[1]) == longer {
				t.Errorf("sizes are %d and %d", both[0].Size, both[1].Size)
			}
			if n := len(w.reported("alert")); n != 1 {
				t.Errorf("the alert was told %d times", n)
			}
			removeAll(filepath.Join(w.c.Dir, a.Evidence[0]))
			w.m.Close()
			if _, err := Open(w.c); err == nil || !strings.Contains(err.Error(), "evidence of the log's fork") {
				t.Errorf("without the evidence: %v", err)
			}
		})
	}
}

// TestForkShownToWriters: a log answers those who write with a receipt from
// another history than it serves.
func TestForkShownToWriters(t *testing.T) {
	l, other := forkedLog(t)
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	for range 3 {
		other.append(sign(t, releaseOf("9.9.9", ""), "publisher").Leaf)
	}
	l.answer = func(rw http.ResponseWriter, leaf []byte) bool {
		l.serveTransparent(rw, other, other.append(leaf))
		return true
	}
	w.step()
	w.expect()
	// The tiles that a writer is shown have to be had, or there is no proof.
	w.failStep("comparing")
	l.with(func() { l.served = other })
	w.failStep("forked")
	w.expect(Fork)
}

// TestOlderView: a mirror that lags behind is no fork, and what was audited
// stays so.
func TestOlderView(t *testing.T) {
	l := newHandmadeLog(t)
	l.append([]byte("garbage"), sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()
	var newer, older []byte
	l.with(func() { older = l.served.signed })
	l.append(sign(t, releaseOf("1.1.0", ""), "publisher").Leaf)
	w.step()
	l.with(func() { newer, l.served.signed = l.served.signed, older })
	w.step()
	w.kill()
	w.step()
	l.with(func() { l.served.signed = newer })
	w.step()
	w.expect(Malformed)
	if n := len(w.reported("rebuilt")); n != 2 {
		t.Errorf("%d releases were rebuilt", n)
	}
}

// A clock is a test's.
type clock struct{ ahead time.Duration }

func (c *clock) now() time.Time { return time.Now().Add(c.ahead) }

// TestStaleLog: nobody cosigns any more, or nobody answers. Each is said once,
// after the time that the policy allows, also by a monitor that was started
// again, and anew when it happens anew.
func TestStaleLog(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*handmadeLog)
		at     time.Duration // of the first alert
		words  string
	}{
		"not cosigned": {func(*handmadeLog) {}, time.Hour + time.Minute, "no quorum has cosigned the log since"},
		"down":         {func(l *handmadeLog) { l.down = true }, 2*time.Hour + time.Minute, "503"},
		"no quorum": {func(l *handmadeLog) {
			l.served.witness = witnessSigner(l.t, "somebody-else")
			l.served.publish()
		}, 2*time.Hour + time.Minute, "not the quorum"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newHandmadeLog(t)
			l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
			var clock clock
			w := newWatch(t, l.url, testPolicy(l.policy), nil, func(c *Config) { c.Now = clock.now })
			w.step()
			l.with(func() { c.breaks(l) })
			clock.ahead = time.Hour - time.Minute
			_ = w.m.Step(t.Context())
			w.expect()
			for range 2 {
				for clock.ahead = time.Hour; clock.ahead < c.at; clock.ahead += time.Minute {
					_ = w.m.Step(t.Context())
				}
				clock.ahead = c.at
				w.failStep(c.words)
				w.kill()
				w.failStep(c.words)
			}
			w.expect(StaleLog)
			if d := w.alerts()[0].Detail; !strings.Contains(d, c.words) {
				t.Errorf("the alert says %q", d)
			}
			// It is well again, and then not.
			l.with(func() {
				l.down = false
				l.served.witness = witnessSigner(t, "w1")
				l.served.publish()
			})
			clock.ahead = 0
			w.step()
			l.with(func() { c.breaks(l) })
			for clock.ahead = time.Minute; clock.ahead <= 3*time.Hour; clock.ahead += time.Hour {
				_ = w.m.Step(t.Context())
			}
			w.expect(StaleLog, StaleLog)
		})
	}
}

// TestHiddenTiles: a log that goes on publishing checkpoints, and does not show
// what is in them, cannot keep a monitor quiet.
func TestHiddenTiles(t *testing.T) {
	l, other := forkedLog(t)
	var clock clock
	w := newWatch(t, l.url, testPolicy(l.policy), nil, func(c *Config) { c.Now = clock.now })
	w.step()
	other.append(sign(t, releaseOf("6.6.6", ""), "publisher").Leaf)
	other.append(sign(t, releaseOf("6.6.7", ""), "publisher").Leaf)
	other.append(sign(t, releaseOf("6.6.8", ""), "publisher").Leaf)
	other.append(sign(t, releaseOf("6.6.9", ""), "publisher").Leaf)
	l.with(func() { l.served.signed = other.signed })
	for clock.ahead = 0; clock.ahead <= 50*time.Minute; clock.ahead += 10 * time.Minute {
		w.failStep("comparing the checkpoints")
	}
	w.expect()
	// The log stays fresh all the time; the test's clock is set back for it.
	clock.ahead = 0
	w.m.state.Troubles[CannotFollow].Since = time.Now().Add(-61 * time.Minute)
	w.failStep("comparing the checkpoints")
	w.failStep("comparing the checkpoints")
	w.expect(CannotFollow)
}

// TestUnwitnessed: where nobody witnesses there is no time to be late by, but a
// log that is down for a day is said to be.
func TestUnwitnessed(t *testing.T) {
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	_, vkey := logKeys(t, "log")
	unwitnessed, err := receipt.ParsePolicy("log "+vkey+"\nquorum none\n", true)
	if err != nil {
		t.Fatal(err)
	}
	p := testPolicy(unwitnessed)
	p.Receipt = policies.ReceiptAges{Unchecked: "nobody witnesses"}
	var clock clock
	w := newWatch(t, l.url, p, nil, func(c *Config) { c.Now = clock.now })
	w.step()
	clock.ahead = 30 * 24 * time.Hour
	w.step()
	w.expect()
	l.with(func() { l.down = true })
	w.failStep("503")
	clock.ahead += 25 * time.Hour
	w.failStep("503")
	w.expect(StaleLog)
}

// TestManyEntries: a log of several bundles is audited in steps that survive.
func TestManyEntries(t *testing.T) {
	l := newHandmadeLog(t)
	l.with(func() {
		for i := range saveEvery + 300 {
			leaf := []byte("garbage")
			if i == saveEvery+200 {
				leaf = sign(t, releaseOf("1.0.0", ""), "publisher").Leaf
			}
			stored := l.served
			stored.leaves = append(stored.leaves, leaf)
		}
		leaves := l.served.leaves
		l.served.leaves, l.served.hashes = nil, nil
		for _, leaf := range leaves {
			l.served.append(leaf)
		}
	})
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()
	if n := len(w.reported("rebuilt")); n != 1 {
		t.Errorf("%d releases were rebuilt", n)
	}
	raised := w.raised()
	if len(raised) != maxAlerts+1 || raised[maxAlerts] != LimitReached {
		t.Errorf("%d alerts were written: %v", len(raised), raised)
	}
}

// TestAlertBound: whoever can write to a log cannot fill a monitor's disk with
// alerts, nor keep one of another kind from being seen.
func TestAlertBound(t *testing.T) {
	l := newHandmadeLog(t)
	var clock clock
	w := newWatch(t, l.url, testPolicy(l.policy), nil, func(c *Config) { c.Now = clock.now })
	garbage := func(n int) {
		for range n {
			l.append([]byte("garbage"))
		}
	}
	garbage(maxAlerts)
	w.step()
	if got := w.raised(); len(got) != maxAlerts {
		t.Fatalf("%d alerts", len(got))
	}
	garbage(5)
	w.step()
	garbage(5)
	w.kill()
	w.step()
	l.append(sign(t, releaseOf("1.0.0", ""), "stranger").Leaf)
	w.step()
	all := w.alerts()[maxAlerts:]
	if len(all) != 2 || all[0].Code != LimitReached || all[1].Code != UnknownPublisher || *all[0].Index != maxAlerts {
		t.Fatalf("after too many alerts come %v", all)
	}
	if !strings.Contains(all[0].Detail, string(Malformed)) {
		t.Errorf("the alert does not say of what there is too much: %s", all[0].Detail)
	}
	clock.ahead = alertWindow + time.Minute
	l.with(func() { l.served.publish() })
	_ = w.m.Step(t.Context()) // the log is stale by now
	all = w.alerts()[maxAlerts+2:]
	if all[0].Code != LimitReached || !strings.Contains(all[0].Detail, "10 more alerts monitor/malformed-entry") || !strings.Contains(all[0].Detail, "entries from 32 to 41") {
		t.Errorf("after a day comes %+v", all[0])
	}
	garbage(1)
	_ = w.m.Step(t.Context())
	all = w.alerts()
	if last := all[len(all)-1]; last.Code != Malformed {
		t.Errorf("on the next day comes %+v", last)
	}
}

// TestNewPolicy: under other keys the same entries say other things.
func TestNewPolicy(t *testing.T) {
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf, sign(t, releaseOf("2.0.0", ""), "new publisher").Leaf)
	p := testPolicy(l.policy)
	w := newWatch(t, l.url, p, nil, nil)
	w.step()
	w.expect(UnknownPublisher)
	w.kill()
	w.step()
	w.expect(UnknownPublisher)

	more := testPolicy(l.policy)
	more.Publishers = append(more.Publishers, policies.Key{Name: "new publisher", PublicKey: publicKey("new publisher")})
	w.c.Policy = more
	w.kill()
	w.step()
	w.expect(UnknownPublisher)
	if got := len(w.reported("rebuilt")); got != 2 {
		t.Errorf("%d releases were rebuilt; each once is enough", got)
	}
	if got := len(l.entries(publicKey("monitor"))); got != 2 {
		t.Errorf("%d statements are in the log", got)
	}
}

// TestRefusedFolders: a state is of one log, one key and one version.
func TestRefusedFolders(t *testing.T) {
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()

	if _, err := Open(w.c); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("two monitors on one folder: %v", err)
	}
	w.m.Close()
	path := filepath.Join(w.c.Dir, stateFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) []byte {
		var all map[string]any
		if err := json.Unmarshal(good, &all); err != nil {
			t.Fatal(err)
		}
		all[name] = value
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := *w.c.Policy
	_, otherVKey := logKeys(t, "another log")
	for name, c := range map[string]struct {
		state  []byte
		change func(*Config)
		words  string
	}{
		"the same":            {good, nil, ""},
		"another log":         {set("origin", "another.example/log"), nil, "give each log a folder of its own"},
		"another key":         {good, func(c *Config) { c.Signer = testKey("another") }, "with another key"},
		"the log's new key":   {good, func(c *Config) { c.Log = log.NewClient(l.url, tlogPolicy(t, otherVKey), nil) }, "does not verify under this policy"},
		"another version":     {set("version", 2), nil, "version 2, and this program knows 1"},
		"no version":          {[]byte("{}"), nil, "version 0"},
		"not JSON":            {good[:len(good)/2], nil, "remove the file"},
		"an unknown member":   {set("extra", 1), nil, "unknown field"},
		"an audit of nothing": {set("audit", nil), nil, "null"},
		"half an audit":       {set("audit", map[string]any{"next": 0}), nil, ""},
		"a negative entry":    {set("audit", map[string]any{"next": -1}), nil, "not whole"},
		"a later entry":       {set("audit", map[string]any{"next": 1000}), nil, "1000 entries were audited of a tree of 1"},
		"a null release":      {set("audit", map[string]any{"releases": map[string]any{"x": nil}}), nil, "not whole"},
		"a version of none":   {set("audit", map[string]any{"versions": map[string]any{"1.0.0": "x"}}), nil, "not there"},
		"a null rebuild":      {set("rebuilds", map[string]any{"x": nil}), nil, "null"},
		"a null trouble":      {set("troubles", map[string]any{"x": nil}), nil, "null"},
		"a null window":       {set("alerts", map[string]any{"windows": map[string]any{"x": nil}}), nil, "null"},
		"half a fork":         {set("fork", []string{"x"}), nil, "two checkpoints"},
		"a fork that is gone": {set("fork", []string{"x", "y"}), nil, "evidence of the log's fork"},
		"no folder":           {good, func(c *Config) { c.Dir = "" }, "no folder"},
		"no key":              {good, func(c *Config) { c.Signer = nil }, "needs a log"},
		"no patience":         {good, func(c *Config) { c.RetryAfter = -1 }, "negative"},
		"too much patience":   {good, func(c *Config) { c.RetryAfter = 2 * maxRetryAfter }, "over"},
	} {
		if err := os.WriteFile(path, c.state, 0o644); err != nil {
			t.Fatal(err)
		}
		config := w.c
		config.Policy = &other
		if c.change != nil {
			c.change(&config)
		}
		m, err := Open(config)
		if err == nil {
			m.Close()
		}
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
		// A folder that was refused is not taken, nor changed.
		if c.words != "" {
			if b, err := os.ReadFile(path); err != nil || string(b) != string(c.state) {
				t.Errorf("%s: the state was changed", name)
			}
		}
	}
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	w.open()
}

// TestRunFollowsWhileRebuilding: a fork does not wait for a build, which may be
// made to take for ever.
func TestRunFollowsWhileRebuilding(t *testing.T) {
	l, other := forkedLog(t)
	started := make(chan bool, 2)
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.0.0": func(ctx context.Context, _ *statement.Signed) (*builder.Rebuilt, error) {
		started <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}}, nil)
	ended := make(chan error, 1)
	go func() { ended <- w.m.Run(t.Context(), 10*time.Millisecond) }()
	<-started
	l.append([]byte("garbage"))
	for len(w.reported("alert")) == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		other.append(sign(t, releaseOf("6.6.6", ""), "publisher").Leaf)
	}
	l.with(func() { l.served = other })
	var fork *log.ForkError
	if err := <-ended; !errors.As(err, &fork) {
		t.Errorf("the monitor ended with %v", err)
	}
	w.expect(Malformed, Fork)
	if got := w.reported("rebuilt"); len(got) != 0 {
		t.Errorf("a build that was stopped came out as %+v", got)
	}
}

// TestRunEnds: a monitor that is told to stop does, without an error, whatever
// it is doing, and says nothing about it.
func TestRunEnds(t *testing.T) {
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	ctx, cancel := context.WithCancel(t.Context())
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.0.0": func(ctx context.Context, _ *statement.Signed) (*builder.Rebuilt, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}, nil)
	if err := w.m.Run(ctx, time.Hour); err != nil {
		t.Errorf("a monitor that was stopped ended with %v", err)
	}
	if len(w.m.state.Rebuilds) != 0 || len(w.m.state.Troubles) != 0 {
		t.Errorf("it remembers %+v, %+v", w.m.state.Rebuilds, w.m.state.Troubles)
	}
	if err := w.m.Run(t.Context(), 0); err == nil {
		t.Error("it ran without an interval")
	}
}
