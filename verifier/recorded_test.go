package verifier

import (
	"os"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// TestRecorded replays a recording that an earlier version of this package
// wrote: a file that is kept as evidence has to stay readable, and its verdict
// has to stay what it was.
func TestRecorded(t *testing.T) {
	if vectors.Update() {
		s := newScene(t)
		files := map[string][]byte{
			"testdata/policy.yaml":    []byte(policyText(t)),
			"testdata/recording.json": must[[]byte](t)(s.recording().Marshal()),
		}
		for name, b := range files {
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := must[*Recording](t)(ParseRecording(must[[]byte](t)(os.ReadFile("testdata/recording.json"))))
	v, err := Replay(ctx, r, r.Time, Options{Policy: recordedPolicy(t)})
	if err != nil {
		t.Fatalf("%v\n%s", err, lines(v))
	}
	if len(v.Checks) != len(checks) {
		t.Errorf("%d checks, want %d", len(v.Checks), len(checks))
	}
}
