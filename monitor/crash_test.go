package monitor

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// A failingDisk fails at one write, before or after it takes effect, and unless
// it recovers at every later one: the process is dead.
type failingDisk struct {
	folder
	at, writes int // counted from 0
	after      bool
	halfway    bool // of what is appended
	recovers   bool
	names      []string
}

var errDisk = errors.New("the disk fails")

func (d *failingDisk) fail(name string, write func() error) error {
	n := d.writes
	d.writes++
	d.names = append(d.names, name)
	switch {
	case d.at < 0 || n < d.at, d.recovers && n > d.at:
		return write()
	case n == d.at && d.after:
		return errors.Join(errDisk, write())
	}
	return errDisk
}

func (d *failingDisk) write(name string, data []byte) error {
	return d.fail(name, func() error { return d.folder.write(name, data) })
}

func (d *failingDisk) append(name string, data []byte) error {
	if d.halfway && d.writes == d.at {
		// Half of the last line, if there are several.
		data = data[:len(data)-20]
	}
	return d.fail(name, func() error { return d.folder.append(name, data) })
}

// story is a log that gives every kind of thing to do, and what a monitor that
// is never disturbed makes of it.
func story(t *testing.T) (l *handmadeLog, r outcomes, alerts []Code) {
	l = newHandmadeLog(t)
	good, bad := sign(t, releaseOf("1.0.0", ""), "publisher"), sign(t, releaseOf("1.1.0", ""), "publisher")
	l.append(good.Leaf, []byte("garbage"), bad.Leaf, sign(t, releaseOf("1.2.0", ""), "publisher").Leaf,
		sign(t, rebuildOf(bad, statement.Reproduced), "other monitor").Leaf,
		sign(t, releaseOf("1.3.0", ""), "stranger").Leaf)
	return l, outcomes{"1.1.0": notReproduced, "1.2.0": couldNotBuild},
		[]Code{Malformed, UnknownPublisher, NotReproduced, Disagreement}
}

// judge checks that a monitor that was disturbed ended where an undisturbed one
// does: no alert lost, none written twice, and each thing said once.
func judge(t *testing.T, l *handmadeLog, w *watch, alerts []Code) {
	t.Helper()
	w.expect(alerts...)
	want := map[string]statement.Outcome{"1.0.0": statement.Reproduced, "1.1.0": statement.NotReproduced, "1.2.0": statement.CouldNotBuild}
	sent := map[string]string{}
	for _, leaf := range l.added {
		signed, err := statement.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := signed.Rebuild()
		if other, ok := sent[r.Version]; ok && other != string(leaf) {
			t.Errorf("two things were sent of %s", r.Version)
		}
		sent[r.Version] = string(leaf)
		if r.Outcome != want[r.Version] {
			t.Errorf("%s is said to be %s", r.Version, r.Outcome)
		}
	}
	if said := l.entries(publicKey("monitor")); len(said) != 3 || len(sent) != 3 {
		t.Errorf("%d statements about 3 releases are in the log, and %d were sent", len(said), len(sent))
	}
	for id, r := range w.m.state.Rebuilds {
		if r.Published == nil || !r.Confirmed {
			t.Errorf("the rebuild of %s is not done: %+v", id, r)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.c.Dir, "*", ".beside-*")); len(left) > 0 {
		t.Errorf("half-written files are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(w.c.Dir, rebuildPrefix+"*")); len(left) > 0 {
		t.Errorf("folders of rebuilds are left: %v", left)
	}
}

// TestCrash kills a monitor before and after each of its writes, and has another
// go on. It also lets single writes fail in a monitor that goes on itself.
func TestCrash(t *testing.T) {
	undisturbed := func(t *testing.T) []string {
		l, r, alerts := story(t)
		d := &failingDisk{at: -1}
		w := newWatch(t, l.url, testPolicy(l.policy), r, func(c *Config) { d.folder = folder(c.Dir) })
		w.m.disk = d
		w.step()
		w.step()
		judge(t, l, w, alerts)
		return d.names
	}
	names := undisturbed(t)
	if len(names) < 20 {
		t.Fatalf("a monitor writes only %v", names)
	}
	for at, what := range names {
		for name, d := range map[string]failingDisk{
			"killed before": {at: at}, "killed after": {at: at, after: true},
			"failing before": {at: at, recovers: true}, "failing after": {at: at, after: true, recovers: true},
			"killed within": {at: at, after: true, halfway: true}, "failing within": {at: at, after: true, halfway: true, recovers: true},
		} {
			if d.halfway && what != alertsFile {
				continue
			}
			t.Run(fmt.Sprintf("%s write %d of %s", name, at, strings.ReplaceAll(what, "/", " ")), func(t *testing.T) {
				t.Parallel()
				l, r, alerts := story(t)
				w := newWatch(t, l.url, testPolicy(l.policy), r, nil)
				d.folder = folder(w.c.Dir)
				w.m.disk = &d
				first := w.m.Step(t.Context())
				if second := w.m.Step(t.Context()); first == nil && second == nil {
					t.Fatal("nothing failed")
				}
				if !d.recovers {
					w.kill()
				}
				w.step()
				w.step()
				judge(t, l, w, alerts)
				w.kill()
				w.step()
				judge(t, l, w, alerts)
			})
		}
	}
}

// TestCrashWhileSending loses each request on its way to the log, or its answer
// on the way back.
func TestCrashWhileSending(t *testing.T) {
	for at := range 3 {
		for _, arrives := range []bool{false, true} {
			for _, killed := range []bool{false, true} {
				t.Run(fmt.Sprintf("request %d, arrives %v, killed %v", at, arrives, killed), func(t *testing.T) {
					t.Parallel()
					l, r, alerts := story(t)
					n := 0
					l.answer = func(w http.ResponseWriter, leaf []byte) bool {
						n++
						if n-1 != at {
							return false
						}
						if arrives {
							l.served.append(leaf)
						}
						w.WriteHeader(http.StatusBadGateway)
						return true
					}
					w := newWatch(t, l.url, testPolicy(l.policy), r, nil)
					w.failStep("502")
					if killed {
						w.kill()
					}
					w.step()
					w.step()
					judge(t, l, w, alerts)
					if got := len(l.added); got != 4 {
						t.Errorf("%d requests were made", got)
					}
				})
			}
		}
	}
}

// TestFullDisk: what cannot be written is said nevertheless, and once; and it is
// written when there is room again.
func TestFullDisk(t *testing.T) {
	l := newHandmadeLog(t)
	l.append([]byte("garbage"), sign(t, releaseOf("1.0.0", ""), "publisher").Leaf)
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.0.0": notReproduced}, nil)
	d := &failingDisk{folder: folder(w.c.Dir), at: 1} // the checkpoint is still written
	w.m.disk = d
	for range 3 {
		w.failStep(errDisk.Error())
	}
	if told := w.reported("alert"); len(told) != 1 || told[0].Alert.Code != Malformed {
		t.Errorf("with a full disk it said %+v", told)
	}
	if len(l.added) != 0 {
		t.Error("it published what it could not remember")
	}
	d.at = -1
	w.step()
	w.expect(Malformed, NotReproduced)
	if told := w.reported("alert"); len(told) != 2 {
		t.Errorf("in all it said %+v", told)
	}
}

// TestAlertsFile: half a line, which a power cut leaves, is cut off, and the
// numbers go on.
func TestAlertsFile(t *testing.T) {
	l := newHandmadeLog(t)
	l.append([]byte("garbage"))
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()
	f := folder(w.c.Dir)
	if err := f.append(alertsFile, []byte(`{"number":2,"ti`)); err != nil {
		t.Fatal(err)
	}
	w.kill()
	w.expect(Malformed)
	l.append([]byte("more garbage"))
	w.step()
	w.expect(Malformed, Malformed)

	// A state that was removed, or put back from a backup, does not take numbers
	// that are taken.
	removeAll(f.path(stateFile))
	w.kill()
	w.step()
	w.expect(Malformed, Malformed, Malformed, Malformed)

	if err := f.append(alertsFile, []byte("something else\n")); err != nil {
		t.Fatal(err)
	}
	w.m.Close()
	if _, err := Open(w.c); err == nil || !strings.Contains(err.Error(), "move the file away") {
		t.Errorf("an alerts file that ends in something else: %v", err)
	}
}

// TestLedgerResume: what is pending in a state that is older than the file gets
// numbers of its own; what is pending and written already does not.
func TestLedgerResume(t *testing.T) {
	numbers := func(all []Alert) (n []int64) {
		for _, a := range all {
			n = append(n, a.Number)
		}
		return n
	}
	for name, c := range map[string]struct {
		pending         []int64
		last, inFile    int64
		after, unwrtten []int64
	}{
		"none written": {[]int64{4, 5}, 5, 3, []int64{4, 5}, []int64{4, 5}},
		"one written":  {[]int64{4, 5}, 5, 4, []int64{4, 5}, []int64{5}},
		"all written":  {[]int64{4, 5}, 5, 5, []int64{4, 5}, nil},
		"file ahead":   {[]int64{4, 5}, 5, 9, []int64{10, 11}, []int64{10, 11}},
		"file gone":    {[]int64{4, 5}, 5, 0, []int64{4, 5}, []int64{4, 5}},
	} {
		l := ledger{Last: c.last}
		for _, n := range c.pending {
			l.Pending = append(l.Pending, Alert{Number: n})
		}
		l.resume(c.inFile)
		if got := numbers(l.Pending); !slices.Equal(got, c.after) || l.Last != c.after[1] {
			t.Errorf("%s: pending are %v, and the last is %d", name, got, l.Last)
		}
		if got := numbers(l.unwritten(c.inFile)); !slices.Equal(got, c.unwrtten) {
			t.Errorf("%s: %v are to be written", name, got)
		}
	}
}
