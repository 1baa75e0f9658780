package receipt

import (
	"errors"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestVerify(t *testing.T) {
	policy := mustPolicy(t, policyText("group two 2 w1 w2 w3", "quorum two"))
	leaf := sampleLeaves()[sampleIndex]
	receipt := sampleReceipt(t, testLog.sign, w1.at(ago(time.Hour)), w2.at(ago(time.Minute)))
	r, err := policy.Verify(leaf, receipt, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if r.Index != sampleIndex || r.Size != 7 || r.Origin != testLog.name {
		t.Errorf("index %d, size %d, origin %s", r.Index, r.Size, r.Origin)
	}
	if !r.Freshness.Equal(ago(time.Hour)) || !r.Seniority.Equal(ago(time.Minute)) {
		t.Errorf("freshness %v, seniority %v", r.Freshness, r.Seniority)
	}
	other, err := torchwood.ParsePolicy([]byte(policy.Text()))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(other, tlog.RecordHash(leaf), receipt); err != nil {
		t.Errorf("torchwood: %v", err)
	}
	if _, err := policy.Verify([]byte("another leaf"), receipt, testNow); kindOf(err) != Inclusion {
		t.Errorf("another leaf: %v", err)
	}
	if _, err := policy.Verify(leaf, sampleReceipt(t, testLog.sign, w1.at(ago(time.Hour))), testNow); kindOf(err) != Quorum {
		t.Errorf("one witness: %v", err)
	}
}

// TestTorchwoodAgrees verifies each vector with torchwood too. It accepts all
// that is accepted here; where it accepts more, it is for a reason that is
// named here.
func TestTorchwoodAgrees(t *testing.T) {
	stricterHere := map[string]string{
		"extra":           "unauthenticated data",
		"index-zero":      "two forms of one receipt",
		"hash-bits":       "two forms of one receipt",
		"signatures-many": "bounds",
		"future":          "time",
		"far-future":      "time",
		"witness-undated": "time",
	}
	for _, v := range receiptVectors(t) {
		policy, err := torchwood.ParsePolicy([]byte(v.String("policy")))
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		err = torchwood.VerifyProof(policy, tlog.RecordHash([]byte(v.String("leaf"))), v.Bytes())
		_, stricter := stricterHere[v.Name]
		switch {
		case v.Valid && err != nil:
			t.Errorf("%s: torchwood refuses it: %v", v.Name, err)
		case !v.Valid && err == nil && !stricter:
			t.Errorf("%s: torchwood accepts it", v.Name)
		case stricter && err != nil:
			t.Errorf("%s: torchwood refuses it too: %v", v.Name, err)
		}
	}
}
