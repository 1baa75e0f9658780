package vectors

import (
	"os"
	"path/filepath"
	"testing"
)

// Evidence reads a file of third parties' recorded evidence. It is never copied
// into the repository: it lies in the folder that VITRINE_EVIDENCE names, or else
// in shared/evidence beside the repository. Where it is not, the test says so and
// is skipped.
func Evidence(t testing.TB, name string) []byte {
	t.Helper()
	folder := os.Getenv("VITRINE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join(root(), "..", "shared", "evidence")
	}
	b, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if os.IsNotExist(err) {
		t.Skipf("the recorded evidence is not on this machine: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}
