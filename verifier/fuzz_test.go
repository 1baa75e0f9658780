package verifier

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
)

func recordedPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	return must[*policies.Policy](t)(policies.Parse("testdata/policy.yaml", must[[]byte](t)(os.ReadFile("testdata/policy.yaml"))))
}

// FuzzReplay: whatever a file holds, a verdict is a refusal with a code of the
// closed list or an acceptance in which every check has ended well; nothing
// panics.
func FuzzReplay(f *testing.F) {
	file := must[[]byte](f)(os.ReadFile("testdata/recording.json"))
	f.Add(file)
	r := must[*Recording](f)(ParseRecording(file))
	f.Add([]byte(strings.Replace(string(file), "recording/v1", "recording/v2", 1)))
	policy := recordedPolicy(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseRecording(b)
		if err != nil {
			return
		}
		v, err := Replay(context.Background(), got, r.Time, Options{Policy: policy})
		holdVerdict(t, v, err)
	})
}

// FuzzDocument changes the evidence inside an otherwise good recording.
func FuzzDocument(f *testing.F) {
	r := must[*Recording](f)(ParseRecording(must[[]byte](f)(os.ReadFile("testdata/recording.json"))))
	policy := recordedPolicy(f)
	f.Add(r.Document)
	f.Add([]byte(cutReceipts(string(r.Document))))
	d := must[*evidence.Document](f)(evidence.ParseDocument(r.Document))
	d.Channel, d.Rebuilds = d.Release, append(d.Rebuilds, d.Rebuilds...)
	f.Add(must[[]byte](f)(d.Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		changed := *r
		changed.Document = b
		v, err := Replay(context.Background(), &changed, r.Time, Options{Policy: policy, State: &MemoryState{}})
		holdVerdict(t, v, err)
	})
}

func holdVerdict(t *testing.T, v *Verdict, err error) {
	t.Helper()
	if err != nil {
		r := rejection(err)
		if r == nil {
			t.Fatalf("no rejection: %v", err)
		}
		if _, ok := r.Code.Info(); !ok {
			t.Fatalf("code %q is not in the closed list", r.Code)
		}
		if v != nil && strings.Contains(v.Sentence(), "verified") {
			t.Fatalf("a refusal says %q", v.Sentence())
		}
		return
	}
	for _, c := range v.Checks {
		if c.Result != Pass && c.Result != Unchecked && c.Result != Recorded {
			t.Fatalf("accepted with check %q ended as %q", c.Name, c.Result)
		}
	}
	if len(v.Lines()) < len(checks) {
		t.Fatal("a verdict without lines")
	}
}

// TestTransparentErrors holds the codes that are read from a message of
// log/receipt against that package.
func TestTransparentErrors(t *testing.T) {
	s := newScene(t)
	good := string(s.document().Release)
	for bad, code := range map[string]string{
		cutReceipts(good): "receipt/missing",
		strings.Replace(good, "index 1", "index 01", 1): "receipt/malformed",
		strings.Replace(good, `"leaf"`, `"lief"`, 1):    "statement/malformed",
		"": "statement/malformed",
	} {
		_, err := receipt.ParseTransparent([]byte(bad))
		if err == nil {
			t.Fatalf("accepted %.80q", bad)
		}
		if r := transparentError(err); string(r.Code) != code {
			t.Errorf("%v: %s, want %s", err, r.Code, code)
		}
	}
}
