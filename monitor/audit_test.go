package monitor

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// TestFindings provokes each finding of the audit, through a log that takes
// anything, beside its honest twin, which raises none.
func TestFindings(t *testing.T) {
	one, two := sign(t, releaseOf("1.0.0", ""), "publisher"), sign(t, releaseOf("1.1.0", ""), "publisher")
	said := func(s *statement.Statement, key string) []byte { return sign(t, s, key).Leaf }
	pcr4 := statement.RegisterValue{Platform: "tpm", Register: "pcr4", Value: hexOf(32, "pcr4")}
	type entries [][]byte
	for name, c := range map[string]struct {
		honest, attack entries
		rebuilt        outcomes
		code           Code
		index          int64
		detail         string
	}{
		"an entry that is no statement": {
			entries{one.Leaf}, entries{one.Leaf, []byte("hello")},
			nil, Malformed, 1, "not a statement",
		},
		"an entry that is not canonical": {
			entries{one.Leaf}, entries{one.Leaf, append(bytes.Clone(two.Leaf), '\n')},
			nil, Malformed, 1, "",
		},
		"an empty entry": {
			entries{one.Leaf}, entries{{}, one.Leaf},
			nil, Malformed, 0, "",
		},
		"a release with a forged signature": {
			entries{one.Leaf}, entries{forge(t, one), one.Leaf},
			nil, BadSignature, 0, "release 1.0.0 of hello-inference",
		},
		"a rebuild with a forged signature": {
			entries{one.Leaf, said(rebuildOf(one, statement.Reproduced), "other monitor")},
			entries{one.Leaf, forge(t, sign(t, rebuildOf(one, statement.Reproduced), "other monitor"))},
			nil, BadSignature, 1, "a rebuild of version 1.0.0",
		},
		"a channel statement with a forged signature": {
			entries{one.Leaf, said(channelOf(1, one), "channel")}, entries{one.Leaf, forge(t, sign(t, channelOf(1, one), "channel"))},
			nil, BadSignature, 1, "channel statement stable number 1",
		},
		"a release by a stranger": {
			entries{one.Leaf, two.Leaf}, entries{one.Leaf, said(releaseOf("1.1.0", ""), "stranger")},
			nil, UnknownPublisher, 1, "release 1.1.0",
		},
		"a release by a rebuilder": {
			entries{one.Leaf, two.Leaf}, entries{one.Leaf, said(releaseOf("1.1.0", ""), "other monitor")},
			nil, UnknownPublisher, 1, "release 1.1.0",
		},
		"a channel statement by the publisher": {
			entries{one.Leaf, said(channelOf(1, one), "channel")}, entries{one.Leaf, said(channelOf(1, one), "publisher")},
			nil, UnknownSigner, 1, "channel statement stable number 1",
		},
		"a withdrawal by the publisher": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer")}, entries{one.Leaf, said(withdrawalOf(1, false, one), "publisher")},
			nil, UnknownSigner, 1, "a withdrawal",
		},
		"a version released twice": {
			entries{one.Leaf, two.Leaf}, entries{one.Leaf, two.Leaf, said(releaseOf("1.0.0", "other"), "publisher")},
			nil, ConflictingRelease, 2, "entry 0, payload " + one.ID.String(),
		},
		"an epoch that falls": {
			entries{one.Leaf, said(releaseOf("1.1.0", "", withEpoch(3)), "publisher"), said(releaseOf("1.2.0", "", withEpoch(3)), "publisher")},
			entries{one.Leaf, said(releaseOf("1.1.0", "", withEpoch(3)), "publisher"), said(releaseOf("1.2.0", "", withEpoch(2)), "publisher")},
			nil, EpochDecreased, 2, "epoch 2, and an earlier release has 3",
		},
		"a channel that goes back": {
			entries{one.Leaf, two.Leaf, said(channelOf(4, one), "channel"), said(channelOf(5, two), "channel")},
			entries{one.Leaf, two.Leaf, said(channelOf(5, one), "channel"), said(channelOf(4, two), "channel")},
			nil, ChannelRollback, 3, "number 4 comes after number 5",
		},
		"a channel that says one number twice": {
			entries{one.Leaf, two.Leaf, said(channelOf(5, one), "channel"), said(channelOf(5, one), "channel")},
			entries{one.Leaf, two.Leaf, said(channelOf(5, one), "channel"), said(channelOf(5, two), "channel")},
			nil, ChannelRollback, 3, "number 5 comes after number 5",
		},
		"a channel that introduces a release": {
			entries{one.Leaf, two.Leaf, said(channelOf(1, one, two), "channel")},
			entries{one.Leaf, said(channelOf(1, one, two), "channel"), two.Leaf},
			nil, UnloggedRelease, 1, "version 1.1.0 (" + two.ID.String(),
		},
		"a channel that lists what is withdrawn": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 2, "lists version 1.0.0",
		},
		"the same withdrawal again after it was taken back": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(withdrawalOf(1, false, one), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 2, "",
		},
		"a withdrawal that is newer than the reinstatement": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(3, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 3, "",
		},
		"a reinstatement of the same instant": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(2, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 3, "",
		},
		"a reinstatement that is dated ahead": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), said(withdrawalOf(10_000, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 3, "",
		},
		"a reinstatement of less": {
			entries{one.Leaf, said(withdrawalOf(1, false, one, pcr4), "withdrawer"), said(withdrawalOf(2, true, one, pcr4), "withdrawer"), said(channelOf(1, one), "channel")},
			entries{one.Leaf, said(withdrawalOf(1, false, one, pcr4), "withdrawer"), said(withdrawalOf(2, true, one), "withdrawer"), said(channelOf(1, one), "channel")},
			nil, WithdrawnRelease, 3, "",
		},
		"a release with a withdrawn register": {
			entries{one.Leaf, said(withdrawalOf(1, false, one, pcr4), "withdrawer"), said(releaseOf("1.1.0", "other"), "publisher")},
			entries{one.Leaf, said(withdrawalOf(1, false, one, pcr4), "withdrawer"), two.Leaf},
			nil, WithdrawnRelease, 2, "the value of pcr4 on tpm",
		},
		"a release with a withdrawn artefact": {
			entries{one.Leaf, said(withdrawalOf(1, false, one), "withdrawer"), two.Leaf},
			entries{one.Leaf, said(withdrawing(one.Statement.Subjects[0]), "withdrawer"), said(releaseOf("1.1.0", "", func(s *statement.Statement, _ *statement.Release) {
				s.Subjects = one.Statement.Subjects
			}), "publisher")},
			nil, WithdrawnRelease, 2, "the artefact uki.efi",
		},
		"a rebuilder who got something else": {
			entries{one.Leaf, said(rebuildOf(one, statement.Reproduced), "other monitor")},
			entries{one.Leaf, said(rebuildOf(one, statement.NotReproduced), "other monitor")},
			nil, Disagreement, 1, "other monitor says that release 1.0.0 is not-reproduced; this monitor got reproduced",
		},
		"a rebuilder who could not build, and one who got something else": {
			entries{one.Leaf, said(rebuildOf(one, statement.CouldNotBuild), "other monitor")},
			entries{one.Leaf, said(rebuildOf(one, statement.CouldNotBuild), "other monitor"), said(rebuildOf(one, statement.NotReproduced), "other monitor")},
			nil, Disagreement, 2, "not-reproduced",
		},
		"a stranger who got something else": {
			entries{one.Leaf, said(rebuildOf(one, statement.NotReproduced), "stranger")},
			entries{one.Leaf, said(rebuildOf(one, statement.NotReproduced), "other monitor")},
			nil, Disagreement, 1, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, leaves := range map[string]entries{"honest": c.honest, "attack": c.attack} {
				l := newHandmadeLog(t)
				l.append(leaves...)
				w := newWatch(t, l.url, testPolicy(l.policy), c.rebuilt, nil)
				w.step()
				w.step()
				if what == "honest" {
					w.expect()
					continue
				}
				w.expect(c.code)
				if a := w.alerts()[0]; a.Index == nil || *a.Index != c.index || !strings.Contains(a.Detail, c.detail) {
					t.Errorf("the alert is about entry %d and says %q", *a.Index, a.Detail)
				}
			}
		})
	}
}

// withdrawing withdraws an artefact alone.
func withdrawing(artefact statement.Subject) *statement.Statement {
	return &statement.Statement{Subjects: []statement.Subject{artefact}, Predicate: &statement.Withdrawal{
		Product: testProduct, Registers: []statement.RegisterValue{}, Reason: "a bug", Since: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
	}}
}

// TestDisagreementAfterwards: what another rebuilder said is compared with this
// monitor's outcome whichever of the two is known first, and once.
func TestDisagreementAfterwards(t *testing.T) {
	release := sign(t, releaseOf("1.0.0", ""), "publisher")
	theirs := sign(t, rebuildOf(release, statement.NotReproduced), "other monitor")
	again := rebuildOf(release, statement.NotReproduced)
	again.Predicate.(*statement.Rebuild).Builder.Version = "a newer one"
	for name, c := range map[string]struct{ before, after [][]byte }{
		"before":                   {[][]byte{release.Leaf, theirs.Leaf}, nil},
		"after":                    {[][]byte{release.Leaf}, [][]byte{theirs.Leaf}},
		"both":                     {[][]byte{release.Leaf, theirs.Leaf}, [][]byte{theirs.Leaf}},
		"before, and reworded":     {[][]byte{release.Leaf, theirs.Leaf}, [][]byte{sign(t, again, "other monitor").Leaf}},
		"before the release, then": {[][]byte{theirs.Leaf, release.Leaf}, [][]byte{theirs.Leaf}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newHandmadeLog(t)
			l.append(c.before...)
			w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
			w.step()
			l.append(c.after...)
			w.step()
			w.expect(Disagreement)
		})
	}
}

// TestDuplicates: a log's deduplication is best effort.
func TestDuplicates(t *testing.T) {
	one, two := sign(t, releaseOf("1.0.0", ""), "publisher"), sign(t, releaseOf("1.1.0", "", withEpoch(2)), "publisher")
	first, second := sign(t, channelOf(1, one), "channel"), sign(t, channelOf(2, two), "channel")
	l := newHandmadeLog(t)
	leaves := [][]byte{one.Leaf, two.Leaf, first.Leaf, second.Leaf,
		sign(t, rebuildOf(one, statement.Reproduced), "other monitor").Leaf,
		sign(t, withdrawalOf(1, false, one), "withdrawer").Leaf, sign(t, withdrawalOf(2, true, one), "withdrawer").Leaf}
	l.append(leaves...)
	l.append(leaves...)
	slices.Reverse(leaves)
	l.append(leaves...)
	w := newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()
	w.step()
	w.expect()
	if got := len(l.entries(publicKey("monitor"))); got != 2 {
		t.Errorf("the monitor said %d things about two releases", got)
	}
}

// TestOtherProducts: they have monitors of their own. The same entries under a
// policy of that product are findings.
func TestOtherProducts(t *testing.T) {
	foreign := [][]byte{
		sign(t, releaseOf("1.0.0", "", ofProduct("another")), "stranger").Leaf,
		sign(t, releaseOf("1.0.0", "other", ofProduct("another")), "stranger").Leaf,
		forge(t, sign(t, releaseOf("1.1.0", "", ofProduct("another")), "publisher")),
	}
	for product, codes := range map[string][]Code{
		testProduct: nil, "another": {UnknownPublisher, UnknownPublisher, BadSignature},
	} {
		l := newHandmadeLog(t)
		l.append(foreign...)
		p := testPolicy(l.policy)
		p.Product = product
		w := newWatch(t, l.url, p, nil, nil)
		w.step()
		w.expect(codes...)
		if n := len(w.reported("rebuilding")); n != 0 {
			t.Errorf("%s: %d releases were rebuilt", product, n)
		}
	}
}

// TestUnchecked: a policy that leaves something unchecked has nobody who may
// say it, and no alert about whoever does.
func TestUnchecked(t *testing.T) {
	one := sign(t, releaseOf("1.0.0", ""), "publisher")
	l := newHandmadeLog(t)
	l.append(one.Leaf, sign(t, channelOf(1, one), "stranger").Leaf, sign(t, withdrawalOf(1, false, one), "stranger").Leaf)
	p := testPolicy(l.policy)
	p.Channel, p.Withdrawers = policies.Channel{Unchecked: "none yet"}, policies.Withdrawers{Unchecked: "none yet"}
	w := newWatch(t, l.url, p, nil, nil)
	w.step()
	w.expect()
	w = newWatch(t, l.url, testPolicy(l.policy), nil, nil)
	w.step()
	w.expect(UnknownSigner, UnknownSigner)
}

// TestAuditBounds: what a log can make a monitor remember ends somewhere, and
// is said when it does.
func TestAuditBounds(t *testing.T) {
	l := newHandmadeLog(t)
	p := testPolicy(l.policy)
	a := newAudit("")
	for i := range maxReleases - 1 {
		id := hexOf(32, fmt.Sprint(i))
		a.Releases[id], a.Versions[fmt.Sprint(i)] = &release{Version: fmt.Sprint(i)}, id
	}
	take := func(s *statement.Statement, key string) (codes []Code) {
		for _, f := range a.take(sign(t, s, key).Leaf, p, nil, time.Now()) {
			codes = append(codes, f.code)
		}
		return codes
	}
	for i, want := range [][]Code{nil, {LimitReached}, nil} {
		if got := take(releaseOf(fmt.Sprintf("v%d", i), ""), "publisher"); !slices.Equal(got, want) {
			t.Errorf("release %d: %v", i, got)
		}
	}
	if len(a.Releases) != maxReleases || len(a.Versions) != maxReleases {
		t.Errorf("%d releases and %d versions are remembered", len(a.Releases), len(a.Versions))
	}
	// It may be one of those that were not remembered.
	if got := take(channelOf(1, sign(t, releaseOf("v2", ""), "publisher")), "channel"); got != nil {
		t.Errorf("a channel statement: %v", got)
	}
	// A version that is known can still be told from its second release.
	if got := take(releaseOf("v0", "other"), "publisher"); !slices.Equal(got, []Code{ConflictingRelease}) {
		t.Errorf("a second release: %v", got)
	}

	for i := range maxWithdrawn - 1 {
		a.Withdrawn[fmt.Sprint(i)] = &withdrawal{Keys: []string{fmt.Sprint(i)}}
	}
	for i, want := range [][]Code{nil, {LimitReached}, nil} {
		if got := take(withdrawalOf(1, false, sign(t, releaseOf(fmt.Sprintf("w%d", i), ""), "publisher")), "withdrawer"); !slices.Equal(got, want) {
			t.Errorf("withdrawal %d: %v", i, got)
		}
	}
	for i := range 2 * maxSeen {
		a.again(&statement.Signed{ID: statement.ID{byte(i), byte(i >> 8), byte(i >> 16)}})
	}
	if len(a.Withdrawn) != maxWithdrawn || len(a.Seen) > maxSeen {
		t.Errorf("%d withdrawn and %d seen are remembered", len(a.Withdrawn), len(a.Seen))
	}
}

// FuzzAudit: no entry stops a monitor, and each is one step further.
func FuzzAudit(f *testing.F) {
	one := sign(f, releaseOf("1.0.0", ""), "publisher")
	for _, s := range [][]byte{
		one.Leaf, forge(f, one), {}, []byte("{}"),
		sign(f, rebuildOf(one, statement.NotReproduced), "other monitor").Leaf,
		sign(f, channelOf(1, one), "channel").Leaf, sign(f, withdrawalOf(1, false, one), "withdrawer").Leaf,
		sign(f, releaseOf("1.0.0", "other"), "stranger").Leaf,
	} {
		f.Add(s)
	}
	_, vkey := logKeys(f, "log")
	p := testPolicy(tlogPolicy(f, vkey))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		a := newAudit("")
		a.take(one.Leaf, p, nil, time.Now())
		own := map[string]*rebuild{one.ID.String(): {Outcome: statement.Reproduced}}
		for range 2 {
			for _, found := range a.take(leaf, p, own, time.Now()) {
				if _, ok := found.code.Info(); !ok || found.index < 0 || found.index >= a.Next {
					t.Errorf("found %+v", found)
				}
			}
		}
		if a.Next != 3 {
			t.Errorf("the next entry is %d", a.Next)
		}
		if err := a.check(); err != nil {
			t.Error(err)
		}
	})
}
