package builder

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// buildTiny builds the recipe in dir and predicts its registers.
func buildTiny(t *testing.T, dir string) (*Output, Inputs, Cache, []statement.Measurement) {
	t.Helper()
	in, cache := lockTiny(t, dir)
	out, err := Build(t.Context(), in, Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tinyTools()})
	if err != nil {
		t.Fatal(err)
	}
	measurements, err := out.Measurements(t.Context(), in, cache)
	if err != nil {
		t.Fatal(err)
	}
	return out, in, cache, measurements
}

func TestReleaseStatement(t *testing.T) {
	out, in, _, measurements := buildTiny(t, "testdata/tiny")
	s, err := ReleaseStatement(out, in, "0.1.0", measurements)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := s.Payload()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := statement.ParsePayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	r := parsed.Predicate.(*statement.Release)
	if r.Product != "tiny" || r.Version != "1.0" || r.SecurityEpoch != 1 || r.Source.Commit != "0123456789abcdef0123456789abcdef01234567" {
		t.Errorf("the release is %+v", r)
	}
	if r.Recipe.Digest != statement.DigestOf(in.Recipe) || r.Lock.Digest != statement.DigestOf(in.Lock) {
		t.Error("recipe and lock are not named by the digests of their bytes")
	}
	var subjects []string
	for _, subject := range parsed.Subjects {
		subjects = append(subjects, subject.Name)
		b, err := os.ReadFile(filepath.Join(out.Dir, subject.Name))
		if err != nil || statement.DigestOf(b) != subject.Digest {
			t.Errorf("the file %s does not have the digest that is stated: %v", subject.Name, err)
		}
	}
	if want := []string{"cmdline", "initrd.cpio", "manifest.json", "root.erofs", "root.verity", "vmlinuz"}; !slices.Equal(subjects, want) {
		t.Errorf("subjects %q, want %q", subjects, want)
	}
	if len(r.Volumes) != 1 || r.Volumes[0].VerityRoot != out.Manifest.Volumes[0].VerityRoot {
		t.Errorf("volumes %+v", r.Volumes)
	}
	registers := r.Measurements[0].Registers
	for name, want := range map[string]string{
		"guestPolicy": "0000000000030000",
		"vmpl":        "00000000",
		"hostData":    strings.Repeat("00", 32),
		"idKeyDigest": strings.Repeat("00", 48),
	} {
		if got := registers[name].OneOf; len(got) != 1 || got[0] != want {
			t.Errorf("register %s is %q, want %s", name, got, want)
		}
	}
	if len(r.NotCovered) == 0 {
		t.Error("nothing is said to be left uncovered")
	}
	// The launch digest is that of the files, measured here without the builder.
	direct, err := measure.SNP(measure.SNPInput{
		Mode: measure.ModeSNP, VMM: measure.VMMQEMU, VCPUs: 2, VCPUType: "EPYC-v4", GuestFeatures: 1,
		Firmware: io.NewSectionReader(bytes.NewReader(simulated.Firmware()), 0, int64(len(simulated.Firmware()))),
		Kernel:   open(t, out.Path("vmlinuz")), Initrd: open(t, out.Path("initrd.cpio")), Cmdline: &out.Manifest.CommandLine,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := registers["launchDigest"].OneOf; len(got) != 1 || got[0] != direct.Registers["launchDigest"] {
		t.Errorf("launch digest %q, want %s", got, direct.Registers["launchDigest"])
	}

	if _, err := ReleaseStatement(out, Inputs{Recipe: append(slices.Clone(in.Recipe), '\n'), Lock: in.Lock}, "0.1.0", measurements); err == nil || !strings.Contains(err.Error(), "another recipe") {
		t.Errorf("another recipe gives %v", err)
	}
	if _, err := ReleaseStatement(out, in, "0.1.0", nil); err == nil {
		t.Error("a release that measures nothing is stated")
	}
}

func open(t *testing.T, name string) io.Reader {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

func TestMeasurement(t *testing.T) {
	r := &measure.Result{
		Platform:     "tpm",
		Registers:    map[string]string{"pcr1": "x"}, // not mandatory, so not stated
		Undetermined: map[string]string{},
	}
	for _, name := range statement.MandatoryRegisters("tpm") {
		r.Registers[name] = strings.Repeat("ab", 32)
	}
	delete(r.Registers, "pcr0")
	if _, err := Measurement("q35", r); err == nil || !strings.Contains(err.Error(), "pcr0") {
		t.Errorf("a register without value and reason gives %v", err)
	}
	r.Undetermined["pcr0"] = "the firmware patches itself"
	m, err := Measurement("q35", r)
	if err != nil {
		t.Fatal(err)
	}
	if m.Registers["pcr0"].Any != "the firmware patches itself" || len(m.Registers) != len(statement.MandatoryRegisters("tpm")) || m.Registers["pcr4"].OneOf[0] != r.Registers["pcr4"] {
		t.Errorf("got %+v", m)
	}
}

func TestMeasureRefuses(t *testing.T) {
	out, _, _, _ := buildTiny(t, "testdata/tiny")
	firmware := io.NewSectionReader(bytes.NewReader(simulated.Firmware()), 0, int64(len(simulated.Firmware())))
	for name, c := range map[string]struct {
		shape Shape
		want  string
	}{
		"no platform":   {Shape{Name: "x"}, "exactly one platform"},
		"two platforms": {Shape{Name: "x", TPM: &TPMShape{}, SNP: &SNPShape{}}, "exactly one platform"},
		"no UKI":        {Shape{Name: "x", TPM: &TPMShape{}}, "no uki.efi"},
		"no vCPU type":  {Shape{Name: "x", SNP: &SNPShape{Firmware: firmware, VMM: measure.VMMQEMU, VCPUs: 1, GuestFeatures: 1}}, "vCPU type"},
	} {
		if got, err := out.Measure(c.shape); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, got, err, c.want)
		}
	}
}

// signRelease makes a release of a statement, as a publisher does.
func signRelease(t *testing.T, s *statement.Statement) *statement.Signed {
	t.Helper()
	key, err := statement.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
