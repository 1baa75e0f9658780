package verifier

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Result is how a check ended.
type Result string

const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	NotReached Result = "not reached"
	// Unchecked: the policy says that this is not checked, and why.
	Unchecked Result = "unchecked"
	// Recorded: only the moment itself could show it, and a file cannot.
	Recorded Result = "not reached (recorded)"
)

// Check is one line of a verdict.
type Check struct {
	Name   string        `json:"name"`
	Result Result        `json:"result"`
	Saw    string        `json:"saw,omitempty"`
	Code   hardware.Code `json:"code,omitempty"` // of a check that failed
}

// Release says which release a verdict is about. It is what the statement says
// of itself, and worth no more than the checks.
type Release struct {
	Product       string                 `json:"product"`
	Version       string                 `json:"version"`
	SecurityEpoch int64                  `json:"securityEpoch"`
	Identity      string                 `json:"identity"` // SHA-256 of the payload, hex
	NotCovered    []statement.NotCovered `json:"notCovered"`
}

func summarize(s *statement.Signed) *Release {
	rel, ok := s.Release()
	if !ok {
		return nil
	}
	return &Release{rel.Product, rel.Version, rel.SecurityEpoch, s.ID.String(), rel.NotCovered}
}

// Verdict is what an appraisal came to. A verdict opens nothing: only a
// [Transport] sends, and it makes its own.
type Verdict struct {
	Policy     string              // name of the policy
	Time       time.Time           // at which it holds, by the client's clock
	Historical bool                // replayed from a file
	Checks     []Check             // every check, in order
	Rejection  *hardware.Rejection // why not; nil if accepted
	Claims     *hardware.Claims    // nil unless the hardware is genuine
	Release    *Release            // nil unless the statement is well formed
	Notes      []string            // what else has to be said, whatever the answer
}

// Accepted reports whether every check that was reached passed.
func (v *Verdict) Accepted() bool { return v.Rejection == nil }

// Confidential reports whether the machine is out of its host's reach: only
// then is the verdict's word "verified".
func (v *Verdict) Confidential() bool {
	return v.Claims != nil && v.Claims.Isolation == hardware.Confidential && !v.Claims.Simulated
}

// Sentence is the verdict in one sentence. It says "verified" only of a machine
// that genuine hardware isolates from its host.
func (v *Verdict) Sentence() string {
	var s string
	switch {
	case !v.Accepted():
		s = fmt.Sprintf("refused: %s: %s", v.Rejection.Code, v.Rejection.Detail)
	case v.Confidential():
		s = fmt.Sprintf("verified: this connection ends inside a %s machine that runs %s", v.Claims.Platform, v.subject())
	case v.Claims != nil && v.Claims.Simulated:
		s = fmt.Sprintf("measured, not confidential: a simulated %s machine says that it runs %s; its maker can read everything", v.Claims.Platform, v.subject())
	default:
		platform := "unknown"
		if v.Claims != nil {
			platform = v.Claims.Platform
		}
		s = fmt.Sprintf("measured, not confidential: a %s machine runs %s; its host can read everything", platform, v.subject())
	}
	if v.Historical {
		return fmt.Sprintf("HISTORICAL, as of %s: %s", v.Time.Format(time.RFC3339), s)
	}
	return s
}

func (v *Verdict) subject() string {
	if v.Release == nil {
		return "an unknown release"
	}
	return v.Release.Product + " " + v.Release.Version
}

// Lines prints the verdict for people: a line for each check, the notes, what
// is not covered, and the sentence last.
func (v *Verdict) Lines() []string {
	var out []string
	for _, c := range v.Checks {
		saw := c.Saw
		if c.Code != "" {
			saw = string(c.Code) + ": " + saw
		}
		out = append(out, strings.TrimRight(fmt.Sprintf("%-22s  %-16s  %s", c.Result, c.Name, saw), " "))
	}
	for _, n := range v.Notes {
		out = append(out, "note: "+n)
	}
	if v.Accepted() && v.Release != nil {
		for _, n := range v.Release.NotCovered {
			out = append(out, fmt.Sprintf("not covered: %s: %s", n.What, n.Why))
		}
	}
	if v.Rejection != nil {
		if info, ok := v.Rejection.Code.Info(); ok {
			out = append(out, "cause: "+info.Cause, "mend: "+info.Mend)
		}
	}
	return append(out, v.Sentence())
}

// MarshalJSON writes the verdict for machines.
func (v *Verdict) MarshalJSON() ([]byte, error) {
	isolation := hardware.None
	if v.Confidential() {
		isolation = hardware.Confidential
	}
	return json.Marshal(struct {
		Accepted   bool                `json:"accepted"`
		Historical bool                `json:"historical"`
		Isolation  hardware.Isolation  `json:"isolation"`
		Sentence   string              `json:"sentence"`
		Policy     string              `json:"policy"`
		Time       string              `json:"time"`
		Checks     []Check             `json:"checks"`
		Rejection  *hardware.Rejection `json:"rejection,omitempty"`
		Release    *Release            `json:"release,omitempty"`
		Claims     *hardware.Claims    `json:"claims,omitempty"`
		Notes      []string            `json:"notes,omitempty"`
	}{
		v.Accepted(), v.Historical, isolation, v.Sentence(), v.Policy, v.Time.Format(time.RFC3339),
		v.Checks, v.Rejection, v.Release, v.Claims, v.Notes,
	})
}
