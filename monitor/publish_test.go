package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// oneRelease is a log with one release, and a monitor of it to which a version
// 1.0.0 comes out as r says.
func oneRelease(t *testing.T, r func(context.Context, *statement.Signed) (*builder.Rebuilt, error)) (*handmadeLog, *watch, *clock) {
	t.Helper()
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	clock := &clock{}
	p := testPolicy(l.policy)
	p.Receipt.MaxAge = 365 * 24 * time.Hour // the tests set the clock, and the witness does not
	w := newWatch(t, l.url, p, outcomes{"1.0.0": r}, func(c *Config) { c.Now = clock.now })
	return l, w, clock
}

// said are the outcomes that a monitor published.
func said(l *handmadeLog) []statement.Outcome {
	var all []statement.Outcome
	for _, s := range l.entries(publicKey("monitor")) {
		r, _ := s.Rebuild()
		all = append(all, r.Outcome)
	}
	return all
}

func (l *handmadeLog) expectSaid(want ...statement.Outcome) {
	l.t.Helper()
	if got := said(l); !slices.Equal(got, want) {
		l.t.Errorf("the monitor said %v, not %v", got, want)
	}
}

// TestCouldNotBuild: no alert, and not the last word: it is tried again, ever
// more seldom, and what has changed is said.
func TestCouldNotBuild(t *testing.T) {
	for name, c := range map[string]struct {
		later  func(context.Context, *statement.Signed) (*builder.Rebuilt, error)
		said   []statement.Outcome
		alerts []Code
	}{
		"the mirror comes back":        {reproduced, []statement.Outcome{statement.CouldNotBuild, statement.Reproduced}, nil},
		"it comes back with the truth": {notReproduced, []statement.Outcome{statement.CouldNotBuild, statement.NotReproduced}, []Code{NotReproduced}},
	} {
		t.Run(name, func(t *testing.T) {
			now := couldNotBuild
			l, w, clock := oneRelease(t, func(ctx context.Context, s *statement.Signed) (*builder.Rebuilt, error) { return now(ctx, s) })
			w.step()
			l.expectSaid(statement.CouldNotBuild)
			now = c.later
			clock.ahead = 23 * time.Hour
			w.step()
			w.kill()
			w.step()
			l.expectSaid(statement.CouldNotBuild)
			w.expect()
			clock.ahead = 25 * time.Hour
			w.step()
			w.step()
			l.expectSaid(c.said...)
			w.expect(c.alerts...)
			clock.ahead = 365 * 24 * time.Hour
			_ = w.m.Step(t.Context())
			l.expectSaid(c.said...)
		})
	}
}

// TestNewOnesFirst: clients wait for what was just released, and not for what
// could not be built before.
func TestNewOnesFirst(t *testing.T) {
	l, w, clock := oneRelease(t, couldNotBuild)
	w.step()
	l.append(sign(t, releaseOf("1.1.0", ""), "publisher").Leaf, sign(t, releaseOf("1.2.0", ""), "publisher").Leaf)
	clock.ahead = 25 * time.Hour
	w.step()
	var order []string
	for _, e := range w.reported("rebuilding") {
		order = append(order, e.Version)
	}
	if want := []string{"1.0.0", "1.1.0", "1.2.0", "1.0.0"}; !slices.Equal(order, want) {
		t.Errorf("rebuilt were %v, not %v", order, want)
	}
}

// TestRetriesEnd: a release that never builds costs a monitor a bounded number
// of builds and one statement, whatever the reasons are.
func TestRetriesEnd(t *testing.T) {
	tries := 0
	l, w, clock := oneRelease(t, func(context.Context, *statement.Signed) (*builder.Rebuilt, error) {
		tries++
		return &builder.Rebuilt{Outcome: statement.CouldNotBuild, Reason: fmt.Sprintf("reason %d", tries)}, nil
	})
	var at []int
	for day := range 200 {
		clock.ahead = time.Duration(day)*24*time.Hour + time.Minute
		before := tries
		w.step()
		if tries > before {
			at = append(at, day)
		}
	}
	if want := []int{0, 1, 3, 7, 15, 31, 63}; !slices.Equal(at, want) {
		t.Errorf("it was tried on the days %v, not %v", at, want)
	}
	l.expectSaid(statement.CouldNotBuild)
	w.expect()
	if files, err := os.ReadDir(filepath.Join(w.c.Dir, statementsDir)); err != nil || len(files) != 2 {
		t.Errorf("%d files are kept for one statement: %v", len(files), err)
	}
}

// TestEndlessBuild: a release's source may be made never to end.
func TestEndlessBuild(t *testing.T) {
	l, w, _ := oneRelease(t, func(ctx context.Context, _ *statement.Signed) (*builder.Rebuilt, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("compiling: %w", ctx.Err())
	})
	w.c.RebuildTimeout = 10 * time.Millisecond
	w.kill()
	w.step()
	l.expectSaid(statement.CouldNotBuild)
	r, _ := l.entries(publicKey("monitor"))[0].Rebuild()
	if r.Reason != "the build did not end within 10ms" {
		t.Errorf("the reason is %q", r.Reason)
	}
	w.expect()
}

// TestCannotTry: what is wrong with this machine is not said of a release, and
// does not keep the others waiting; if it lasts, somebody hears of it.
func TestCannotTry(t *testing.T) {
	full := true
	l, w, clock := oneRelease(t, func(ctx context.Context, s *statement.Signed) (*builder.Rebuilt, error) {
		if full {
			return nil, fmt.Errorf("rebuilding: %w", syscall.ENOSPC)
		}
		return reproduced(ctx, s)
	})
	l.append(sign(t, releaseOf("1.1.0", ""), "publisher").Leaf)
	w.c.Policy.Receipt.MaxAge = 0
	w.kill()
	w.failStep("release 1.0.0 (entry 0): rebuilding: no space left")
	l.expectSaid(statement.Reproduced)
	clock.ahead = 23 * time.Hour
	w.failStep("no space left")
	w.expect()
	clock.ahead = 25 * time.Hour
	w.failStep("no space left")
	w.failStep("no space left")
	w.expect(CannotRebuild)
	full = false
	w.step()
	l.expectSaid(statement.Reproduced, statement.Reproduced)
	w.expect(CannotRebuild)
}

// TestRefusingLog: a log that does not take a statement cannot keep its readers
// from the alert. The monitor goes on asking, with the same bytes.
func TestRefusingLog(t *testing.T) {
	for name, c := range map[string]struct {
		refuse map[string]*log.Error
		words  string
	}{
		"the statement":    {map[string]*log.Error{"/add": {Code: log.NotAdmitted, Detail: "the signer's key is not in the admission list"}}, "have the log's operator admit this monitor's key as a rebuilder of hello-inference"},
		"everything":       {map[string]*log.Error{"/add": {Code: log.Unavailable, Detail: "busy"}, "/addenda": {Code: log.Unavailable, Detail: "full"}}, "busy"},
		"the explanation":  {map[string]*log.Error{"/addenda": {Code: log.Unavailable, Detail: "full"}}, "storing the explanation"},
		"by being unclear": {map[string]*log.Error{"/add": {Code: "log/unheard-of", Detail: "?"}}, "posting to"},
	} {
		t.Run(name, func(t *testing.T) {
			l, w, clock := oneRelease(t, notReproduced)
			if e := c.refuse["/add"]; e != nil && statusOf[e.Code] == 0 {
				statusOf := http.StatusTeapot
				l.answer = func(w http.ResponseWriter, _ []byte) bool { w.WriteHeader(statusOf); return true }
				delete(c.refuse, "/add")
			}
			l.with(func() { l.refuse = c.refuse })
			w.failStep(c.words)
			w.expect(NotReproduced)
			kept, err := filepath.Glob(filepath.Join(w.c.Dir, statementsDir, "*"))
			if err != nil || len(kept) != 2 {
				t.Fatalf("the folder of statements has %v: %v", kept, err)
			}
			w.kill()
			clock.ahead = 364 * 24 * time.Hour
			w.failStep(c.words)
			w.expect(NotReproduced)
			clock.ahead = 366 * 24 * time.Hour
			_ = w.m.Step(t.Context())
			if got := w.raised(); !slices.Contains(got, CannotPublish) && !slices.Contains(got, StaleLog) {
				t.Errorf("the alerts are %v", got)
			}
			clock.ahead = 0
			l.with(func() { l.refuse, l.answer = nil, nil })
			w.step()
			w.step()
			l.expectSaid(statement.NotReproduced)
			said := l.entries(publicKey("monitor"))[0]
			r, _ := said.Rebuild()
			if explanation := l.addenda[r.Explanation.SHA256]; !strings.Contains(string(explanation), "because") {
				t.Errorf("the explanation beside the log is %q", explanation)
			}
			if !slices.ContainsFunc(kept, func(name string) bool {
				b, err := os.ReadFile(name)
				return err == nil && bytes.Equal(b, said.Leaf)
			}) {
				t.Error("what was sent in the end is not what was kept in the beginning")
			}
		})
	}
}

// TestCannotPublish: what the log does not take for too long is an alert.
func TestCannotPublish(t *testing.T) {
	l, w, clock := oneRelease(t, reproduced)
	w.c.Policy.Receipt.MaxAge = 0
	w.kill()
	l.with(func() { l.refuse["/add"] = &log.Error{Code: log.NotAdmitted, Detail: "no"} })
	w.failStep("admit")
	clock.ahead = 25 * time.Hour
	w.failStep("admit")
	w.kill()
	w.failStep("admit")
	w.expect(CannotPublish)
	if d := w.alerts()[0].Detail; !strings.Contains(d, "release 1.0.0") || !strings.Contains(d, "admit this monitor's key") {
		t.Errorf("the alert says %q", d)
	}
}

// TestOneAlertForOneCause: a log that is down takes no statements either.
func TestOneAlertForOneCause(t *testing.T) {
	l, w, clock := oneRelease(t, reproduced)
	w.c.Policy.Receipt.MaxAge = 0
	w.kill()
	if err := w.m.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.with(func() { l.down = true })
	w.failStep("503")
	clock.ahead = 25 * time.Hour
	w.failStep("503")
	w.expect(StaleLog)
	l.with(func() { l.down = false })
	w.step()
	l.expectSaid(statement.Reproduced)
}

// TestNoReceipt: an entry that no quorum has cosigned yet is in, and looked for
// when it is.
func TestNoReceipt(t *testing.T) {
	l, w, _ := oneRelease(t, reproduced)
	l.answer = func(w http.ResponseWriter, leaf []byte) bool {
		before := l.served.signed
		index := l.served.append(leaf)
		l.served.signed = before
		refuseWith(w, &log.Error{Code: log.NoReceipt, Detail: "later", Index: index})
		return true
	}
	w.step()
	w.step()
	if len(l.added) != 1 || len(w.reported("published")) != 1 {
		t.Errorf("it was sent %d times", len(l.added))
	}
	l.with(func() { l.served.publish() })
	w.step()
	if r := onlyRebuild(w); !r.Confirmed {
		t.Errorf("the entry was not looked for: %+v", r)
	}
	l.expectSaid(statement.Reproduced)
	w.expect()
}

func onlyRebuild(w *watch) *rebuild {
	w.t.Helper()
	if len(w.m.state.Rebuilds) != 1 {
		w.t.Fatalf("there are %d rebuilds", len(w.m.state.Rebuilds))
	}
	for _, r := range w.m.state.Rebuilds {
		return r
	}
	return nil
}

// TestLostStatement: the log answered for an entry that its tree does not have.
// The same bytes are sent again; if they are lost again, not at every step.
func TestLostStatement(t *testing.T) {
	for name, ends := range map[string]bool{"once": true, "again and again": false} {
		t.Run(name, func(t *testing.T) {
			l, w, clock := oneRelease(t, reproduced)
			l.answer = func(w http.ResponseWriter, _ []byte) bool {
				refuseWith(w, &log.Error{Code: log.NoReceipt, Detail: "later", Index: 1})
				return true
			}
			w.step()
			w.expect()
			l.append(sign(t, rebuildOf(sign(t, releaseOf("1.0.0", ""), "publisher"), statement.Reproduced), "stranger").Leaf)
			w.failStep("another is there")
			w.expect(StatementLost)
			if a := w.alerts()[0]; *a.Index != 1 {
				t.Errorf("the alert is about entry %d", *a.Index)
			}
			if ends {
				l.with(func() { l.answer = nil })
				w.kill()
				w.step()
				w.step()
				l.expectSaid(statement.Reproduced)
				if len(l.added) != 2 || !bytes.Equal(l.added[0], l.added[1]) {
					t.Errorf("%d statements were sent, or not the same", len(l.added))
				}
			} else {
				w.failStep("another is there")
				for range 5 {
					w.step()
				}
				if len(l.added) != 2 {
					t.Errorf("it was sent %d times within a day", len(l.added))
				}
				clock.ahead = 25 * time.Hour
				w.failStep("another is there")
				if len(l.added) != 3 {
					t.Errorf("it was sent %d times in two days", len(l.added))
				}
			}
			w.expect(StatementLost)
		})
	}
}

// TestSameWordsByAnother: a log that keeps one entry for a payload answers with
// the entry of whoever said it first. That is not this monitor's word, and must
// not be taken for it.
func TestSameWordsByAnother(t *testing.T) {
	for name, receipt := range map[string]bool{"with a receipt": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			l, w, _ := oneRelease(t, reproduced)
			other := newWatch(t, l.url, w.c.Policy, nil, func(c *Config) { c.Signer = testKey("other monitor") })
			other.step()
			if !receipt {
				l.answer = func(w http.ResponseWriter, _ []byte) bool {
					refuseWith(w, &log.Error{Code: log.NoReceipt, Detail: "later", Index: 1})
					return true
				}
			}
			w.failStep("entry 1, which says the same by another key")
			w.failStep("entry 1, which says the same by another key")
			l.expectSaid()
			w.expect()
			if n := len(w.reported("published")); receipt && n != 0 {
				t.Errorf("it said %d times that it had published", n)
			}
			if got := len(l.entries(publicKey("other monitor"))); got != 1 {
				t.Errorf("the first said %d things", got)
			}
			if r := onlyRebuild(w); r.Confirmed {
				t.Error("another's word counts as its own")
			}
		})
	}
}

// TestForgottenState: a monitor that lost its state rebuilds, and finds its own
// words in the log.
func TestForgottenState(t *testing.T) {
	l, w, _ := oneRelease(t, reproduced)
	w.step()
	w.step()
	removeAll(filepath.Join(w.c.Dir, stateFile))
	removeAll(filepath.Join(w.c.Dir, statementsDir))
	w.kill()
	w.step()
	w.step()
	l.expectSaid(statement.Reproduced)
	w.expect()
	if r := onlyRebuild(w); !r.Confirmed || *r.Published != 1 {
		t.Errorf("its own statement was not found: %+v", r)
	}
}

// TestUnsayable: whatever keeps a result from being put into words, the alarm
// rings, and the release is not rebuilt again and again.
func TestUnsayable(t *testing.T) {
	l := newHandmadeLog(t)
	l.append(sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.0.0": func(ctx context.Context, s *statement.Signed) (*builder.Rebuilt, error) {
		got, err := notReproduced(ctx, s)
		got.Output.Artefacts = []builder.Artefact{{Name: "NO NAME", SHA256: hexOf(32, "file")}}
		return got, err
	}}, nil)
	w.failStep("cannot be put into words")
	w.expect(NotReproduced)
	w.kill()
	w.failStep("cannot be put into words")
	w.expect(NotReproduced)
	if n := len(w.reported("rebuilt")); n != 1 {
		t.Errorf("it was rebuilt %d times", n)
	}
}

// TestStrangersWords: a release's publisher chooses the names of files, and an
// alert quotes them.
func TestStrangersWords(t *testing.T) {
	_, w, _ := oneRelease(t, func(ctx context.Context, s *statement.Signed) (*builder.Rebuilt, error) {
		got, err := notReproduced(ctx, s)
		got.Differences[0].Files = []builder.FileDifference{{Path: "etc/\x1b[2J\n\u202egnp.exe" + strings.Repeat("é", 2000)}}
		return got, err
	})
	w.step()
	for _, said := range []string{w.alerts()[0].Detail, w.reported("rebuilt")[0].Detail, w.reported("alert")[0].Detail} {
		if len(said) > maxDetailBytes || strings.ContainsAny(said, "\x1b\n\u202e\ufffd") || !strings.Contains(said, "etc/?[2J") {
			t.Errorf("it says %q", said)
		}
	}
}

// TestSpoiltStatement: what is sent is what was written, or nothing.
func TestSpoiltStatement(t *testing.T) {
	l, w, _ := oneRelease(t, reproduced)
	l.with(func() { l.refuse["/add"] = &log.Error{Code: log.Unavailable, Detail: "busy"} })
	w.failStep("busy")
	name := filepath.Join(w.c.Dir, statementsDir, onlyRebuild(w).Leaf+".json")
	if err := os.WriteFile(name, []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.with(func() { delete(l.refuse, "/add") })
	w.failStep("not what was written")
	if len(l.added) != 0 {
		t.Errorf("%q was sent", l.added)
	}
}

// TestAnotherEntry: a state that was tampered with makes no monitor say of one
// release what came out of another.
func TestAnotherEntry(t *testing.T) {
	l, w, _ := oneRelease(t, reproduced)
	l.append(sign(t, releaseOf("1.1.0", ""), "publisher").Leaf)
	if err := w.m.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.m.state.Audit.Releases {
		r.Index = 1 - r.Index
	}
	w.failStep("when it was audited")
	l.expectSaid()
}

// TestLeftFolders: a rebuild that was killed leaves a folder, which may be made
// read-only as a module cache is.
func TestLeftFolders(t *testing.T) {
	_, w, _ := oneRelease(t, reproduced)
	left := filepath.Join(w.c.Dir, rebuildPrefix+"1234", "mod", "cache")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "x"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(left, 0o500); err != nil {
		t.Fatal(err)
	}
	w.kill()
	if names, err := filepath.Glob(filepath.Join(w.c.Dir, rebuildPrefix+"*")); err != nil || len(names) > 0 {
		t.Errorf("%v is left: %v", names, err)
	}
}

// TestParallel: as many rebuilds as were asked for run at once, and each is
// said.
func TestParallel(t *testing.T) {
	l := newHandmadeLog(t)
	const n = 3
	together := make(chan bool)
	meet := func(ctx context.Context, s *statement.Signed) (*builder.Rebuilt, error) {
		select { // with one of the others
		case together <- true:
		case <-together:
		case <-ctx.Done():
			return nil, errors.New("alone")
		}
		return reproduced(ctx, s)
	}
	r := outcomes{}
	for i := range 2 * n {
		version := fmt.Sprintf("1.%d.0", i)
		l.append(sign(t, releaseOf(version, ""), "publisher").Leaf)
		r[version] = meet
	}
	w := newWatch(t, l.url, testPolicy(l.policy), r, func(c *Config) { c.Parallel = n; c.RebuildTimeout = 20 * time.Second })
	w.step()
	w.step()
	if got := said(l); len(got) != 2*n || slices.Contains(got, statement.CouldNotBuild) {
		t.Errorf("the monitor said %v", got)
	}
	w.expect()
}
