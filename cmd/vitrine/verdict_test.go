package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/verifier"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// TestRefusedAfterTheVerdict: a node that was accepted and then ends the
// connection with another key has not been accepted.
func TestRefusedAfterTheVerdict(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		c := &cobra.Command{}
		c.SetOut(&out)
		v := &verifier.Verdict{Checks: []verifier.Check{{Name: "hardware", Result: verifier.Pass}}}
		err := printVerdict(c, v, hardware.Refuse("connection/key-changed", "another key"), asJSON)
		if !errors.Is(err, errNo) || !strings.Contains(out.String(), "refused: connection/key-changed: another key") {
			t.Errorf("error %v after\n%s", err, &out)
		}
		if !v.Accepted() {
			t.Error("the caller's verdict was changed")
		}
	}
}
