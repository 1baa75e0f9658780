package builder

import (
	"net/http"
	"os"
	"testing"
	"time"
)

// realMirrors gives this machine's Debian mirrors, or skips the test when they
// cannot be reached. With VITRINE_REQUIRE_BOOT=1 that is a failure.
func realMirrors(t *testing.T) *Mirrors {
	t.Helper()
	cannot := t.Skipf
	if os.Getenv("VITRINE_REQUIRE_BOOT") == "1" {
		cannot = t.Fatalf
	}
	m, err := AptMirrors("/etc/apt")
	if err != nil {
		cannot("needs a Debian mirror: %v", err)
	}
	m.Client = &http.Client{Timeout: 2 * time.Minute}
	for _, base := range m.URLs {
		if body, _, err := m.open(t.Context(), base+"/dists/bookworm/InRelease"); err == nil {
			body.Close()
			return m
		}
	}
	cannot("needs a Debian mirror with bookworm: none of %q answers", m.URLs)
	return nil
}
