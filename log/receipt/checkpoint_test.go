package receipt

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// TestQuorumTimes compares freshness and seniority with their definitions,
// taken word for word, over all times there are.
func TestQuorumTimes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n := 1 + random.IntN(6)
		p := &Policy{witnesses: make([]witness, n)}
		times := make([]int64, n)
		for i := range times {
			times[i] = random.Int64N(8) // 0: did not cosign
		}
		p.quorum = randomTree(random, n)
		satisfied := func(in func(int64) bool) bool {
			cosigned := make([]bool, n)
			for i, at := range times {
				cosigned[i] = at > 0 && in(at)
			}
			return p.quorum.satisfied(cosigned)
		}
		var wantFresh, wantSenior int64
		for u := int64(1); u < 8; u++ {
			if satisfied(func(at int64) bool { return at >= u }) {
				wantFresh = u
			}
		}
		for u := int64(7); u > 0; u-- {
			if satisfied(func(at int64) bool { return at <= u }) {
				wantSenior = u
			}
		}
		fresh, senior, ok := p.quorumTimes(times)
		if ok != (wantSenior > 0) || ok && (fresh != wantFresh || senior != wantSenior) {
			t.Fatalf("times %v: freshness %d, seniority %d, %v; want %d, %d", times, fresh, senior, ok, wantFresh, wantSenior)
		}
	}
}

// randomTree is a quorum over n witnesses.
func randomTree(random *rand.Rand, n int) *node {
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = &node{witness: i}
	}
	for len(nodes) > 1 {
		random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		k := 2 + random.IntN(len(nodes)-1)
		group := &node{members: append([]*node(nil), nodes[:k]...), threshold: 1 + random.IntN(k)}
		nodes = append([]*node{group}, nodes[k:]...)
	}
	return nodes[0]
}

func TestNothingFromTheFutureCounts(t *testing.T) {
	p := mustPolicy(t, policyText("group two 2 w1 w2 w3", "quorum two"))
	note := sampleNote(t, testLog.sign, w1.at(ago(time.Hour)), w2.at(ago(time.Minute)), w3.at(testNow.Add(Tolerance+time.Second)))
	c, err := p.OpenCheckpoint(note, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Freshness.Equal(ago(time.Hour)) || !c.Seniority.Equal(ago(time.Minute)) || len(c.Cosignatures) != 2 {
		t.Errorf("freshness %v, seniority %v, by %s", c.Freshness, c.Seniority, c.cosigners())
	}
	// The same note, read later, counts all three.
	if c, err = p.OpenCheckpoint(note, testNow.Add(time.Second)); err != nil || len(c.Cosignatures) != 3 {
		t.Errorf("a second later: %v, %v", c, err)
	}
}

func TestOpenUnwitnessed(t *testing.T) {
	p := mustPolicy(t, policyText("quorum w1"))
	c, err := p.OpenUnwitnessed(sampleNote(t, testLog.sign))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Freshness.IsZero() || !c.Seniority.IsZero() || c.Size != 7 {
		t.Errorf("%+v", c)
	}
	if _, err := p.OpenUnwitnessed(sampleNote(t, w1.at(testNow))); kindOf(err) != LogSignature {
		t.Errorf("without the log: %v", err)
	}
	// A log that lies does not lie in our form only: extension lines must not
	// hide a fork.
	text := newTestTree(t, sampleLeaves()...).text(t, testLog.name)
	text += "an extension line\n"
	extended, err := p.OpenUnwitnessed([]byte(text + "\n" + testLog.sign(text)))
	if err != nil || Fork(c, extended) {
		t.Errorf("with an extension: %v", err)
	}
}

func TestFork(t *testing.T) {
	a := &Checkpoint{Origin: "a", Size: 7, Root: [32]byte{1}}
	for _, c := range []struct {
		b    Checkpoint
		want bool
	}{
		{Checkpoint{Origin: "a", Size: 7, Root: [32]byte{1}}, false},
		{Checkpoint{Origin: "a", Size: 7, Root: [32]byte{2}}, true},
		{Checkpoint{Origin: "a", Size: 8, Root: [32]byte{2}}, false},
		{Checkpoint{Origin: "b", Size: 7, Root: [32]byte{2}}, false},
	} {
		if got := Fork(a, &c.b); got != c.want {
			t.Errorf("Fork(%v, %v) = %v", a, c.b, got)
		}
	}
}

func TestParseNote(t *testing.T) {
	origin, size, root, err := ParseNote(sampleNote(t, testLog.sign))
	if err != nil || origin != testLog.name || size != 7 || root != newTestTree(t, sampleLeaves()...).root(t) {
		t.Errorf("%s %d %x %v", origin, size, root, err)
	}
	// An empty tree has one root.
	for _, c := range []struct {
		root [32]byte
		ok   bool
	}{{emptyRoot, true}, {[32]byte{1}, false}} {
		text := "log.example\n0\n" + base64.StdEncoding.EncodeToString(c.root[:]) + "\n"
		if _, _, _, err := ParseNote([]byte(text + "\n" + testLog.sign(text))); (err == nil) != c.ok {
			t.Errorf("an empty tree with root %x: %v", c.root, err)
		}
	}
	if _, _, _, err := ParseNote(make([]byte, MaxNoteBytes+1)); kindOf(err) != Malformed || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a long note: %v", err)
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	for _, input := range vectors.Inputs(f, "receipt") {
		if p, err := ParseProof(input); err == nil {
			f.Add(p.Note)
		}
	}
	f.Add(sampleNote(f, testLog.sign, w1.at(testNow), w2.at(testNow)))
	p := mustPolicy(f, policyText("group two 2 w1 w2 w3", "quorum two"))
	f.Fuzz(func(t *testing.T, note []byte) {
		origin, size, root, formErr := ParseNote(note)
		c, err := p.OpenCheckpoint(note, testNow)
		if err != nil {
			if kindOf(err) == "" {
				t.Fatalf("%v is no Error", err)
			}
			return
		}
		if formErr != nil || c.Origin != origin || c.Size != size || c.Root != root {
			t.Fatal("a checkpoint is accepted that ParseNote reads otherwise")
		}
		if c.Freshness.After(testNow.Add(Tolerance)) || len(c.Cosignatures) < 2 || c.Seniority.IsZero() {
			t.Fatalf("freshness %v, seniority %v, by %s", c.Freshness, c.Seniority, c.cosigners())
		}
	})
}
