// Package hardwaretest holds the checks of a platform against attacks: each
// attack is refused with its own code, each code is provoked by some attack,
// and each check is missed when it is left out.
package hardwaretest

import (
	"errors"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// An Attack is forged or unfit evidence.
type Attack struct {
	Name string
	Code hardware.Code // that it must be refused with
	// Check is the check without which it gets through, "" if it is refused
	// before any check.
	Check string
	// Make makes the evidence and gives what verifies it: all checks for "", or
	// all but one.
	Make func(testing.TB) func(without string) (*hardware.Claims, error)
}

// Platform is what the attacks are on.
type Platform struct {
	Name    string   // of hardware.Codes: "sev-snp"
	Checks  []string // names, all of them
	Attacks []Attack
	// Overlaps says that without that check another one may give the same code.
	Overlaps func(check string) bool
	// Through looks at the claims of an attack that got through.
	Through func(testing.TB, *hardware.Claims)
}

// Test runs every attack, with all checks and without the one that stops it.
func (p Platform) Test(t *testing.T) {
	provoked, missed := map[hardware.Code]bool{}, map[string]bool{}
	for _, a := range p.Attacks {
		t.Run(a.Name, func(t *testing.T) {
			verify := a.Make(t)
			_, err := verify("")
			var r *hardware.Rejection
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a rejection", err)
			}
			if r.Code != a.Code {
				t.Fatalf("refused with %v, want %s", r, a.Code)
			}
			provoked[r.Code] = true
			if _, ok := r.Code.Info(); !ok {
				t.Errorf("%s is not in the list of codes", r.Code)
			}
			if a.Check == "" {
				return
			}
			claims, err := verify(a.Check)
			if err == nil {
				missed[a.Check] = true
				p.Through(t, claims)
			} else if errors.As(err, &r) && r.Code == a.Code && !p.Overlaps(a.Check) {
				t.Errorf("without the check %q the code is still %s: another check gives it", a.Check, a.Code)
			}
		})
	}
	for _, c := range hardware.Codes() {
		if strings.HasPrefix(string(c.Code), "hardware/"+p.Name+"/") && !provoked[c.Code] {
			t.Errorf("nothing provokes %s", c.Code)
		}
	}
	for _, name := range p.Checks {
		if !missed[name] {
			t.Errorf("no attack gets through without the check %q: it is untested or dead", name)
		}
	}
}
