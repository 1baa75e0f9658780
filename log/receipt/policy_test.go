package receipt

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// TestTesseraReadsWitnessPolicy shows that Tessera's parser reads what is
// written for it, and asks the same quorum of the same witnesses.
func TestTesseraReadsWitnessPolicy(t *testing.T) {
	names := []testKey{w1, w2, w3}
	for _, tail := range [][]string{
		{"quorum w2"},
		{"group two 2 w1 w2 w3", "quorum two"},
		{"group pair all w1 w2", "group either any pair w3", "quorum either"},
	} {
		text := strings.Replace(policyText(tail...), w3.vkey(), w3.vkey()+" https://w3.vitrine.example/base", 1)
		policy := mustPolicy(t, text)
		written, err := policy.TesseraWitnessPolicy()
		if err != nil {
			t.Fatal(err)
		}
		group, err := tessera.NewWitnessGroupFromPolicy(written)
		if err != nil {
			t.Fatalf("Tessera refuses\n%s%v", written, err)
		}
		urls := slices.Sorted(maps.Keys(group.Endpoints()))
		if !strings.Contains(strings.Join(urls, " "), "https://w2.vitrine.example/add-checkpoint") {
			t.Errorf("Tessera asks %v", urls)
		}
		for subset := range 8 {
			lines := []func(string) string{testLog.sign}
			for i, w := range names {
				if subset>>i&1 == 1 {
					lines = append(lines, w.at(testNow))
				}
			}
			note := sampleNote(t, lines...)
			_, err := policy.OpenCheckpoint(note, testNow)
			if ours, theirs := err == nil, group.Satisfied(note); ours != theirs {
				t.Errorf("%s with witnesses %03b: we say %v, Tessera %v", tail, subset, ours, theirs)
			}
		}
	}
}

func TestTesseraWitnessPolicyRefuses(t *testing.T) {
	if text, err := mustPolicy(t, policyText("quorum w1")).TesseraWitnessPolicy(); err == nil || !strings.Contains(err.Error(), "w3 has no URL") {
		t.Errorf("a witness without URL: %s, %v", text, err)
	}
	if text, err := mustPolicy(t, "log "+testLog.vkey()+"\nquorum none\n").TesseraWitnessPolicy(); err == nil {
		t.Errorf("no quorum: %s", text)
	}
}

// TestTorchwoodReadsPolicies shows that every policy accepted here, torchwood
// reads too.
func TestTorchwoodReadsPolicies(t *testing.T) {
	for _, v := range policyVectors(t) {
		if !v.Valid {
			continue
		}
		if _, err := torchwood.ParsePolicy(v.Bytes()); err != nil {
			t.Errorf("%s: torchwood refuses it: %v", v.Name, err)
		}
	}
}

func TestPolicyTells(t *testing.T) {
	text := policyText("group two 2 w1 w2 w3", "quorum two")
	p := mustPolicy(t, text)
	want := []Witness{
		{"w1", w1.vkey(), "https://w1.vitrine.example/"},
		{"w2", w2.vkey(), "https://w2.vitrine.example/"},
		{"w3", w3.vkey(), ""},
	}
	if got := p.Witnesses(); !slices.Equal(got, want) {
		t.Errorf("witnesses %v", got)
	}
	if p.Text() != text || p.Origin() != testLog.name || p.LogVerifierKey() != testLog.vkey() || p.LogURL() != "https://log.vitrine.example/" || p.Unwitnessed() {
		t.Errorf("the policy tells %q %q %q", p.Origin(), p.LogVerifierKey(), p.LogURL())
	}
}

// TestManyGroups holds the bounds, and that a deep policy is evaluated.
func TestManyGroups(t *testing.T) {
	deep := func(n int) string {
		s := "log " + testLog.vkey() + "\nwitness g0 " + w1.vkey() + "\n"
		for i := range n {
			s += "group g" + string(rune('A'+i/10)) + string(rune('0'+i%10)) + " any "
			if i == 0 {
				s += "g0\n"
			} else {
				s += "g" + string(rune('A'+(i-1)/10)) + string(rune('0'+(i-1)%10)) + "\n"
			}
		}
		return s + "quorum g" + string(rune('A'+(n-1)/10)) + string(rune('0'+(n-1)%10)) + "\n"
	}
	p := mustPolicy(t, deep(MaxGroups))
	if _, err := p.OpenCheckpoint(sampleNote(t, testLog.sign, w1.at(testNow)), testNow); err != nil {
		t.Error(err)
	}
	if _, err := p.OpenCheckpoint(sampleNote(t, testLog.sign), testNow); kindOf(err) != Quorum {
		t.Errorf("without the witness: %v", err)
	}
	if _, err := ParsePolicy(deep(MaxGroups+1), false); err == nil || !strings.Contains(err.Error(), "more than 32 groups") {
		t.Errorf("33 groups: %v", err)
	}
	if _, err := ParsePolicy(strings.Repeat("#\n", MaxPolicyBytes/2)+"#\n", false); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a long policy: %v", err)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, input := range vectors.Inputs(f, "policy-tlog") {
		f.Add(string(input), false)
	}
	f.Add("log "+testLog.vkey()+"\nquorum none\n", true)
	f.Fuzz(func(t *testing.T, text string, unwitnessed bool) {
		p, err := ParsePolicy(text, unwitnessed)
		if err != nil {
			if kindOf(err) != Malformed {
				t.Fatalf("%v is not Malformed", err)
			}
			return
		}
		if p.Unwitnessed() != unwitnessed || p.Origin() == "" || p.Text() != text {
			t.Fatal("the policy does not tell what was read")
		}
		// A quorum asks something: no cosignature never satisfies it.
		if p.quorum != nil && p.quorum.satisfied(make([]bool, len(p.witnesses))) {
			t.Fatalf("nobody satisfies the quorum of\n%s", text)
		}
		if _, err := torchwood.ParsePolicy([]byte(text)); err != nil {
			t.Fatalf("torchwood refuses it: %v\n%s", err, text)
		}
	})
}
