package receipt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

func receiptAt(t testing.TB, d time.Duration) string {
	return string(sampleReceipt(t, testLog.sign, w1.at(ago(d))))
}

func TestAdd(t *testing.T) {
	s := &Transparent{Leaf: sampleLeaves()[sampleIndex]}
	hours := func(n int) string { return receiptAt(t, time.Duration(n)*time.Hour) }
	for n := 9; n > 0; n-- {
		if err := s.Add(hours(n)); err != nil {
			t.Fatal(err)
		}
		if err := s.Add(hours(n)); err != nil { // once more changes nothing
			t.Fatal(err)
		}
	}
	if len(s.Receipts) != 2 || s.Receipts[0] != hours(9) || s.Receipts[1] != hours(1) {
		t.Errorf("%d receipts; want the first and the newest", len(s.Receipts))
	}
	if err := s.Add(hours(9)); err != nil || len(s.Receipts) != 2 || s.Receipts[1] != hours(1) {
		t.Errorf("the first once more: %v", err)
	}
	// Other logs have room of their own, until there is none.
	for i := range 7 {
		origin := fmt.Sprintf("log%d.example", i)
		err := s.Add(string(signedAs(t, origin, testLog.sign)))
		if room := i < MaxReceipts-2; (err == nil) != room {
			t.Errorf("log %d: %v", i, err)
		}
	}
	if len(s.Receipts) != MaxReceipts {
		t.Errorf("%d receipts", len(s.Receipts))
	}
	if err := s.Add(hours(0)); err != nil || len(s.Receipts) != MaxReceipts || s.Receipts[0] != hours(9) {
		t.Errorf("a newer one of the first log: %v", err)
	}
	if err := s.Add("hello"); kindOf(err) != Malformed {
		t.Errorf("no receipt: %v", err)
	}
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseTransparent(b)
	if err != nil || !bytes.Equal(read.Leaf, s.Leaf) || strings.Join(read.Receipts, "") != strings.Join(s.Receipts, "") {
		t.Errorf("read again: %v", err)
	}
}

func TestVerifyTransparent(t *testing.T) {
	p := mustPolicy(t, policyText("quorum w1"))
	leaf := sampleLeaves()[sampleIndex]
	old, recent := receiptAt(t, 48*time.Hour), receiptAt(t, time.Hour)
	unsigned := string(sampleReceipt(t, w1.at(ago(time.Minute))))
	uncosigned := string(sampleReceipt(t, testLog.sign))
	foreign := string(signedAs(t, "other.example", testLog.sign, w1.at(ago(time.Minute))))
	best, err := p.VerifyTransparent(&Transparent{leaf, []string{foreign, recent, unsigned, old, uncosigned}}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if !best.Oldest.Seniority.Equal(ago(48*time.Hour)) || !best.Newest.Freshness.Equal(ago(time.Hour)) {
		t.Errorf("seniority %v, freshness %v", best.Oldest.Seniority, best.Newest.Freshness)
	}
	for _, c := range []struct {
		receipts []string
		want     Kind
	}{
		{nil, Malformed},
		{[]string{"hello"}, Malformed},
		{[]string{"hello", foreign}, WrongLog},
		{[]string{unsigned, foreign}, LogSignature},
		{[]string{foreign, uncosigned, unsigned}, Quorum},
		{make([]string, MaxReceipts+1), Malformed},
	} {
		if _, err := p.VerifyTransparent(&Transparent{leaf, c.receipts}, testNow); kindOf(err) != c.want {
			t.Errorf("%d receipts: %v, want %s", len(c.receipts), err, c.want)
		}
	}
	if _, err := p.VerifyTransparent(&Transparent{[]byte("another leaf"), []string{uncosigned, old}}, testNow); kindOf(err) != Inclusion {
		t.Errorf("another leaf: %v", err)
	}
}

// TestUnwitnessedTimesHelpLeast shows that a policy without quorum never makes
// a statement look senior or fresh.
func TestUnwitnessedTimesHelpLeast(t *testing.T) {
	p := mustPolicy(t, "log "+testLog.vkey()+"\nquorum none\n")
	r, err := p.Verify(sampleLeaves()[sampleIndex], []byte(receiptAt(t, 48*time.Hour)), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Freshness.IsZero() || r.Seniority.Before(testNow) {
		t.Errorf("freshness %v, seniority %v", r.Freshness, r.Seniority)
	}
}

func TestTransparentBounds(t *testing.T) {
	big := &Transparent{Leaf: make([]byte, MaxLeafBytes), Receipts: []string{receiptAt(t, 0)}}
	if _, err := big.Marshal(); err != nil {
		t.Errorf("the largest leaf: %v", err)
	}
	big.Leaf = append(big.Leaf, 0)
	if _, err := big.Marshal(); kindOf(err) != Malformed {
		t.Errorf("a leaf of one byte more: %v", err)
	}
	if _, err := ParseTransparent(make([]byte, MaxTransparentBytes+1)); kindOf(err) != Malformed {
		t.Errorf("a long file: %v", err)
	}
	if _, err := ParseProof(make([]byte, MaxReceiptBytes+1)); kindOf(err) != Malformed {
		t.Errorf("a long receipt: %v", err)
	}
}

func FuzzParseProof(f *testing.F) {
	for _, input := range vectors.Inputs(f, "receipt") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, proof []byte) {
		p, err := ParseProof(proof)
		if err != nil {
			if kindOf(err) != Malformed {
				t.Fatalf("%v is not Malformed", err)
			}
			return
		}
		if again := FormatProof(p.Index, p.Hashes, p.Note); !bytes.Equal(again, proof) {
			t.Fatalf("read %q\nwrote %q", proof, again)
		}
		if p.Index < 0 || p.Index >= p.Size || p.Origin == "" {
			t.Fatalf("index %d of %d, origin %q", p.Index, p.Size, p.Origin)
		}
	})
}

func FuzzParseTransparent(f *testing.F) {
	for _, input := range vectors.Inputs(f, "transparent") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseTransparent(b)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		if s2, err := ParseTransparent(again); err != nil || !bytes.Equal(s2.Leaf, s.Leaf) || len(s2.Receipts) != len(s.Receipts) {
			t.Fatalf("read again: %v", err)
		}
	})
}
