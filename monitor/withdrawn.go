package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// maxWithdrawn bounds the digests and register values that are remembered as
// withdrawn.
const maxWithdrawn = 100_000

// withdrawals is what was withdrawn and taken back, by a digest of what it is
// about: a reinstatement takes back exactly the same subjects and registers
// (docs/formats.md, "withdrawal").
type withdrawals map[string]*withdrawal

// withdrawal is what was said about one set of digests and registers. The order
// in which the log has it does not matter, and neither do duplicates.
type withdrawal struct {
	Keys []string `json:"keys"` // sorted
	// Since and Reinstated are the latest of those that were said.
	Since      time.Time `json:"since,omitzero"`
	Reinstated time.Time `json:"reinstated,omitzero"`
}

// stands: in doubt, at the same instant, the withdrawal does. A reinstatement
// that is dated ahead takes nothing back yet.
func (w *withdrawal) stands(now time.Time) bool {
	return !w.Since.IsZero() && !(w.Reinstated.After(w.Since) && !w.Reinstated.After(now.Add(receipt.Tolerance)))
}

// take remembers a withdrawal or a reinstatement, and reports whether there was
// room for it.
func (ws withdrawals) take(subjects []statement.Subject, p *statement.Withdrawal) bool {
	var keys []string
	for _, subject := range subjects {
		keys = append(keys, subject.Digest.SHA256)
	}
	for _, r := range p.Registers {
		keys = append(keys, registerKey(r.Platform, r.Register, r.Value))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	sum := sha256.Sum256([]byte(strings.Join(keys, "\n")))
	id := hex.EncodeToString(sum[:])
	w := ws[id]
	if w == nil {
		have := 0
		for _, other := range ws {
			have += len(other.Keys)
		}
		if have+len(keys) > maxWithdrawn {
			return false
		}
		w = &withdrawal{Keys: keys}
		ws[id] = w
	}
	at := &w.Since
	if p.Reinstates {
		at = &w.Reinstated
	}
	if p.Since.After(*at) {
		*at = p.Since
	}
	return true
}

// of names what of a release is withdrawn, or gives "".
func (ws withdrawals) of(signed *statement.Signed, r *statement.Release, now time.Time) string {
	names := map[string]string{}
	for _, m := range r.Measurements {
		for name, register := range m.Registers {
			for _, value := range register.OneOf {
				names[registerKey(m.Platform, name, value)] = fmt.Sprintf("the value of %s on %s", name, m.Platform)
			}
		}
	}
	for _, subject := range signed.Statement.Subjects {
		names[subject.Digest.SHA256] = "the artefact " + subject.Name
	}
	names[signed.ID.String()] = "the release itself"
	var found []string
	for _, w := range ws {
		for _, key := range w.Keys {
			if what := names[key]; what != "" && w.stands(now) {
				found = append(found, what)
			}
		}
	}
	if found == nil {
		return ""
	}
	return slices.Min(found)
}

// has reports whether a digest is withdrawn.
func (ws withdrawals) has(digest string, now time.Time) bool {
	for _, w := range ws {
		if _, ok := slices.BinarySearch(w.Keys, digest); ok && w.stands(now) {
			return true
		}
	}
	return false
}

func registerKey(platform, register, value string) string {
	return platform + "/" + register + "/" + value
}
