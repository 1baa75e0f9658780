package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// TestLook: anybody may look at a monitor while it runs.
func TestLook(t *testing.T) {
	l := newHandmadeLog(t)
	one := sign(t, releaseOf("1.0.0", ""), "publisher")
	l.append([]byte("garbage"), one.Leaf, sign(t, rebuildOf(one, statement.CouldNotBuild), "other monitor").Leaf, sign(t, releaseOf("1.1.0", ""), "publisher").Leaf)
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.1.0": couldNotBuild}, nil)
	if _, err := Look(w.c.Dir); err == nil || !strings.Contains(err.Error(), "there is none in") {
		t.Errorf("before the first step: %v", err)
	}
	w.step()
	w.step()
	s, err := Look(w.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Origin != testOrigin || s.Size != 6 || s.Audited != 6 || s.Forked || s.Alerts != 1 || len(s.Troubles) != 0 || len(s.Releases) != 2 {
		t.Fatalf("it knows %+v", s)
	}
	first, second := s.Releases[0], s.Releases[1]
	if first.Identity != one.ID.String() || first.Index != 1 || first.Outcome != statement.Reproduced || !first.Confirmed || *first.Published != 4 || !first.Retry.IsZero() || first.Rebuilders["other monitor"] != statement.CouldNotBuild {
		t.Errorf("of the first release it knows %+v", first)
	}
	if second.Version != "1.1.0" || second.Outcome != statement.CouldNotBuild || time.Until(second.Retry) < 23*time.Hour {
		t.Errorf("of the second it knows %+v", second)
	}
	if !s.Well() {
		t.Error("it is not well")
	}
	for name, ill := range map[string]*Status{
		"a fork": {Forked: true}, "other bits": {Releases: []ReleaseStatus{{Outcome: statement.Reproduced}, {Outcome: statement.NotReproduced}}},
	} {
		if ill.Well() {
			t.Errorf("%s: it is well", name)
		}
	}
	l.with(func() { l.down = true })
	w.failStep("503")
	if s, err = Look(w.c.Dir); err != nil || s.Troubles[StaleLog].IsZero() {
		t.Errorf("of a log that is down it knows %+v: %v", s, err)
	}
}
