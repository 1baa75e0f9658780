package receipt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
)

// A reader verifies, offline, that a leaf is in the log that its policy names,
// and learns what the witnesses' cosignatures prove about time. Here policy,
// leaf and receipt come from a golden vector.
func Example() {
	var vector struct {
		Given struct{ Policy, Leaf, Now string }
		Input string
	}
	file, err := os.ReadFile("../../testdata/vectors/receipt/three-of-three.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := json.Unmarshal(file, &vector); err != nil {
		fmt.Println(err)
		return
	}
	now, err := time.Parse(time.RFC3339, vector.Given.Now)
	if err != nil {
		fmt.Println(err)
		return
	}

	policy, err := receipt.ParsePolicy(vector.Given.Policy, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := policy.Verify([]byte(vector.Given.Leaf), []byte(vector.Input), now)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("index", r.Index, "of", r.Size, "in", r.Origin)
	for _, c := range r.Cosignatures {
		fmt.Println(c.Witness, "cosigned", now.Sub(c.Time), "ago")
	}
	fmt.Println("fresh as of", now.Sub(r.Freshness), "ago, there for", now.Sub(r.Seniority))
	// Output:
	// index 4 of 7 in log.vitrine.example
	// w1 cosigned 1h0m0s ago
	// w2 cosigned 1m0s ago
	// w3 cosigned 25h0m0s ago
	// fresh as of 1h0m0s ago, there for 1h0m0s
}

// A policy is read strictly, and an error names the line and the mend.
func ExampleParsePolicy() {
	_, err := receipt.ParsePolicy("log log.vitrine.example+65cbbf38+ASf8C9pK4Ys1qaJ+mV/xmH64GKY8gXFQGRxR0Dm6HbtL\nquorum none\n", false)
	var e *receipt.Error
	if errors.As(err, &e) {
		fmt.Println(e.Kind)
		fmt.Println(e.Detail)
	}
	// Output:
	// malformed
	// line 2 of the policy: quorum none accepts what no witness has seen; name a witness or group, or say unwitnessed: true beside the policy
}
