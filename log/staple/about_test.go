package staple

import (
	"testing"

	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// TestTwoRebuildersInTheSameWords: a policy that demands two rebuilders counts
// keys, so that the node needs both statements.
func TestTwoRebuildersInTheSameWords(t *testing.T) {
	release := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	itemOf := func(signed *statement.Signed, index int64) *item {
		return &item{signed: signed, t: &receipt.Transparent{Leaf: signed.Leaf}, index: index}
	}
	a := newAbout(itemOf(release, 0), "")
	one := logtest.Sign(t, logtest.Rebuild(release, "1"), "rebuilder")
	two := logtest.Sign(t, logtest.Rebuild(release, "1"), "another rebuilder")
	if one.ID != two.ID {
		t.Fatal("they do not say the same")
	}
	for i, signed := range []*statement.Signed{one, two, two, one} {
		if !a.take(itemOf(signed, int64(i+1))) {
			t.Errorf("rebuild %d is not taken for one of the release", i)
		}
	}
	if len(a.rebuilds) != 2 || a.rebuilds[0].index != 1 || a.rebuilds[1].index != 2 || a.rebuilds[0].signed.Hint == a.rebuilds[1].signed.Hint {
		t.Errorf("kept are %d rebuilds: %+v", len(a.rebuilds), a.rebuilds)
	}
}
