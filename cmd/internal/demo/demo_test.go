//go:build linux

package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/cmd/internal/vm"
	"github.com/vitrine-dev/vitrine/cmd/internal/vm/esp"
	"github.com/vitrine-dev/vitrine/log/receipt"
)

const recipes = "../../../testdata/recipes"

// vitrineCommand builds the command that the demo runs.
func vitrineCommand(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vitrine")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../vitrine")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	return path
}

// tell runs the demo and returns its story, kept, as it was at the end.
func tell(t *testing.T, mode Mode) *story {
	t.Helper()
	if testing.Short() {
		t.Skip("the whole story takes minutes")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	var out, said bytes.Buffer
	c := Config{Vitrine: vitrineCommand(t), Recipes: recipes, Mode: mode, JSON: true, Keep: true, Dir: dir, Out: &out, Log: &said}
	if err := Run(t.Context(), c); err != nil {
		t.Errorf("the demo: %v", err)
	}
	n := 0
	for line := range strings.Lines(out.String()) {
		var r Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("not one JSON object per line: %v: %q", err, line)
		}
		n++
		if r.Step != n || !r.OK || r.Mode != mode {
			t.Fatalf("step %d: %s\n%s", r.Step, line, said.String())
		}
		t.Logf("%d. %s (%.1f s)", r.Step, r.Name, r.Seconds)
	}
	if n != len(steps) {
		t.Fatalf("%d steps were told, not %d", n, len(steps))
	}
	c.JSON = false
	c.Out = testWriter{t}
	s := newStory(c, dir)
	s.image, s.release = s.path("image", "first"), s.path("image", "first", "release.transparent.json")
	t.Cleanup(s.stopAll)
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimRight(b, "\n"))
	return len(b), nil
}

func TestSimulated(t *testing.T) {
	s := tell(t, Simulated)
	t.Run("others accept the log", func(t *testing.T) { checkKept(t, s) })
}

func TestTPM(t *testing.T) {
	if ok, missing := vm.Available(); !ok {
		if os.Getenv("VITRINE_REQUIRE_BOOT") == "1" {
			t.Fatalf("VITRINE_REQUIRE_BOOT asks for a boot, and this machine lacks %v", missing)
		}
		t.Skipf("this machine lacks %v", missing)
	}
	s := tell(t, TPM)
	t.Run("others accept the log", func(t *testing.T) { checkKept(t, s) })
	t.Run("replay without a network", func(t *testing.T) { replayOffline(t, s) })
	t.Run("a flipped byte that nothing reads", func(t *testing.T) { bootFlipped(t, s) })
	t.Run("a credential on the ESP", func(t *testing.T) { bootCredential(t, s) })
}

// checkKept has torchwood verify the release's receipts, and Tessera's fsck the
// log's folder: two programs that know nothing of ours.
func checkKept(t *testing.T, s *story) {
	text, err := s.read("tlog.policy")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := torchwood.ParsePolicy([]byte(text + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.release)
	if err != nil {
		t.Fatal(err)
	}
	transparent, err := receipt.ParseTransparent(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(transparent.Receipts) < 2 {
		t.Errorf("%d receipts are kept, not the first and the newest", len(transparent.Receipts))
	}
	for i, proof := range transparent.Receipts {
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(transparent.Leaf), []byte(proof)); err != nil {
			t.Errorf("torchwood refuses receipt %d: %v", i, err)
		}
	}
	other := append([]byte{}, transparent.Leaf...)
	other[len(other)/2] ^= 1
	if torchwood.VerifyProof(policy, tlog.RecordHash(other), []byte(transparent.Receipts[0])) == nil {
		t.Error("torchwood accepts the receipt for another leaf")
	}

	vkey, err := s.read("log.vkey")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	check := fsck.New(origin, verifier, &client.FileFetcher{Root: s.path("log")}, func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var hashes [][]byte
		for _, e := range b.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return hashes, nil
	}, fsck.Opts{})
	if err := check.Check(t.Context()); err != nil {
		t.Errorf("Tessera's fsck: %v", err)
	}
}

// replayOffline replays the recording of the booted guest in a network
// namespace that has not even a loopback.
func replayOffline(t *testing.T, s *story) {
	at, err := s.read("report.at")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--net", "--map-root-user", s.c.Vitrine, "verify", "report.json", "--policy", "policy.yaml", "--at", at, "--no-state", "--json"}
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Dir = s.dir
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok && strings.Contains(string(exit.Stderr), "unshare") && os.Getenv("VITRINE_REQUIRE_BOOT") != "1" {
			t.Skipf("the network cannot be cut here: %s", exit.Stderr)
		}
		t.Fatalf("replaying without a network: %v: %s", err, out)
	}
	text, err := s.read("report.verdict.json")
	if err != nil {
		t.Fatal(err)
	}
	var live, replayed verdict
	if err := json.Unmarshal([]byte(text), &live); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &replayed); err != nil {
		t.Fatal(err)
	}
	if err := sameChecks(&live, &replayed); err != nil {
		t.Error(err)
	}
}

// bootFlipped flips a bit in a file that nothing opens. Init reads all of the
// root before anything of it runs, names the block, and powers off.
func bootFlipped(t *testing.T, s *story) {
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := vm.CopyDisk(s.imageFile("disk.img"), disk); err != nil {
		t.Fatal(err)
	}
	block, err := vm.FlipBit(disk, []byte("This image is public: its recipe"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := vm.Start(t.Context(), vm.Config{Disk: disk, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	console := m.ConsoleText()
	if want := fmt.Sprintf("block %d", block); !strings.Contains(console, want) {
		t.Errorf("the console does not name %s: %s", want, tail(console))
	}
	for _, service := range []string{"inference server ready", "vitrine-node"} {
		if strings.Contains(console, service) {
			t.Errorf("%q ran from a root that was changed", service)
		}
	}
}

// bootCredential adds a credential file to the ESP. The stub hands it to the
// guest, which boots; the client refuses it by the names of the registers.
func bootCredential(t *testing.T, s *story) {
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := vm.CopyDisk(s.imageFile("disk.img"), disk); err != nil {
		t.Fatal(err)
	}
	if err := esp.AddFile(disk, "loader/credentials/attack.cred", []byte("anything")); err != nil {
		t.Fatal(err)
	}
	n, err := s.bootDisk(t.Context(), s.path(changedMachine), disk, "")
	if err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	if err := s.waitForNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	transparent, err := s.transparent()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.pushRelease(t.Context(), n, transparent); err != nil {
		t.Fatal(err)
	}
	v, err := s.expectAt(t.Context(), n.url, "a credential on the ESP", "registers/mismatch", "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, register := range []string{"pcr9", "pcr12"} {
		if !strings.Contains(v.Rejection.Detail, register) {
			t.Errorf("the refusal does not name %s: %s", register, v.Rejection.Detail)
		}
	}
}
