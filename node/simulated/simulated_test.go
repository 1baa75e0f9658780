package simulated

import (
	"bytes"
	"crypto/x509"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder/measure"
	firmware "github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node"
	verifier "github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	hardware "github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

var chip = sync.OnceValue(func() *hardware.AMD {
	made, err := hardware.NewAMD(time.Now())
	if err != nil {
		panic(err)
	}
	return made
})

// write makes an image's artefacts in a folder.
func write(t *testing.T, cmdline string) Machine {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return Machine{
		Firmware: file("firmware.fd", firmware.Firmware()),
		Kernel:   file("vmlinuz", []byte("a kernel")),
		Initrd:   file("initrd", []byte("an initrd")),
		Cmdline:  file("cmdline", []byte(cmdline)),
		VCPUs:    2,
		VCPUType: "EPYC-Milan",
	}
}

func TestMeasuresItsArtefacts(t *testing.T) {
	const cmdline = "console=ttyS0 panic=-1"
	machine := write(t, cmdline)
	a, err := Open(chip(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if a.Platform() != "sev-snp" {
		t.Errorf("platform %s", a.Platform())
	}
	registers, err := a.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range statement.MandatoryRegisters("sev-snp") {
		if length, _ := statement.RegisterBytes("sev-snp", name); len(registers[name]) != 2*length {
			t.Errorf("%s is %q", name, registers[name])
		}
	}

	// The same prediction as a release engineer makes, from the bytes.
	text := cmdline
	image := firmware.Firmware()
	want, err := measure.SNP(measure.SNPInput{
		Mode: measure.ModeSNP, VMM: measure.VMMQEMU, GuestFeatures: GuestFeatures, VCPUs: 2, VCPUType: "EPYC-Milan",
		Firmware: section(image), Kernel: strings.NewReader("a kernel"), Initrd: strings.NewReader("an initrd"), Cmdline: &text,
		Launch: &measure.Launch{GuestPolicy: GuestPolicy},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range want.Registers {
		if registers[name] != value {
			t.Errorf("%s: measured %s, predicted %s", name, registers[name], value)
		}
	}

	h := [64]byte(bytes.Repeat([]byte{7}, 64))
	attestation, err := a.Attest(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	reported, err := node.SNPRegisters(attestation.Report)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range registers {
		if reported[name] != value {
			t.Errorf("%s: %s in the report, %s before", name, reported[name], value)
		}
	}
	if !bytes.Equal(attestation.Report[0x50:0x90], h[:]) {
		t.Error("the report is not over the user data")
	}
	if len(attestation.Endorsements) != 3 {
		t.Errorf("%d endorsements, want the chain of three", len(attestation.Endorsements))
	}
}

// Each bit of each artefact, and the machine's shape, changes the launch digest.
func TestEveryArtefactCounts(t *testing.T) {
	digest := func(change func(t *testing.T, m *Machine)) string {
		machine := write(t, "quiet")
		change(t, &machine)
		a, err := Open(chip(), machine)
		if err != nil {
			t.Fatal(err)
		}
		registers, err := a.Registers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return registers["launchDigest"]
	}
	flip := func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-1] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{digest(func(*testing.T, *Machine) {}): "nothing"}
	if again := digest(func(*testing.T, *Machine) {}); seen[again] != "nothing" {
		t.Error("the same files measured twice differ")
	}
	for name, change := range map[string]func(*testing.T, *Machine){
		"kernel":    func(t *testing.T, m *Machine) { flip(t, m.Kernel) },
		"initrd":    func(t *testing.T, m *Machine) { flip(t, m.Initrd) },
		"cmdline":   func(t *testing.T, m *Machine) { flip(t, m.Cmdline) },
		"no initrd": func(t *testing.T, m *Machine) { m.Initrd = "" },
		"no kernel": func(t *testing.T, m *Machine) { m.Kernel, m.Initrd, m.Cmdline = "", "", "" },
		"vCPUs":     func(t *testing.T, m *Machine) { m.VCPUs = 3 },
		"vCPU type": func(t *testing.T, m *Machine) { m.VCPUType = "EPYC-Rome" },
		"firmware": func(t *testing.T, m *Machine) {
			content := firmware.Firmware()
			content[0] ^= 1
			if err := os.WriteFile(m.Firmware, content, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		got := digest(change)
		if other, ok := seen[got]; ok {
			t.Errorf("changing %s measures as changing %s", name, other)
		}
		seen[got] = name
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*Machine){
		"no firmware":         func(m *Machine) { m.Firmware = "" },
		"no such kernel":      func(m *Machine) { m.Kernel += ".absent" },
		"no such initrd":      func(m *Machine) { m.Initrd += ".absent" },
		"no such cmdline":     func(m *Machine) { m.Cmdline += ".absent" },
		"no vCPU":             func(m *Machine) { m.VCPUs = 0 },
		"no vCPU type":        func(m *Machine) { m.VCPUType = "" },
		"initrd, no kernel":   func(m *Machine) { m.Kernel = "" },
		"firmware is another": func(m *Machine) { m.Firmware = m.Kernel },
		"endless cmdline":     func(m *Machine) { m.Cmdline = "/dev/zero" },
	} {
		machine := write(t, "quiet")
		change(&machine)
		if _, err := Open(chip(), machine); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// A kernel beside a firmware that does not measure it could be exchanged by
// the host; a simulation must not pretend otherwise.
func TestRefusesFirmwareWithoutHashesPage(t *testing.T) {
	const ovmf = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	if _, err := os.Stat(ovmf); err != nil {
		t.Skip("Debian's OVMF is not installed: apt-get install ovmf")
	}
	machine := write(t, "quiet")
	machine.Firmware = ovmf
	if _, err := Open(chip(), machine); err == nil {
		t.Error("a kernel beside Debian's OVMF was measured")
	}
}

// The verifier reads the report as it reads a real one, and calls it simulated.
func TestReportsVerifyAsSimulated(t *testing.T) {
	a, err := Open(chip(), write(t, "quiet"))
	if err != nil {
		t.Fatal(err)
	}
	registers, err := a.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := [64]byte(bytes.Repeat([]byte{9}, 64))
	attestation, err := a.Attest(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	collateral := make(verifier.Collateral)
	for _, e := range attestation.Endorsements {
		collateral[e.Type] = e.Data
	}
	options := sevsnp.Options{Now: time.Now(), SimulatedRoots: []*x509.Certificate{chip().ARK}, MinimumTCB: &sevsnp.TCB{}}
	claims, err := sevsnp.Verify(attestation.Report, collateral, options)
	if err != nil {
		t.Fatal(err)
	}
	if !claims.Simulated || claims.Isolation != verifier.None {
		t.Errorf("simulated %t, isolation %s", claims.Simulated, claims.Isolation)
	}
	if !maps.Equal(claims.Registers, registers) || !bytes.Equal(claims.UserData, h[:]) {
		t.Errorf("the verifier reads the registers %v, the attester %v", claims.Registers, registers)
	}
	options.SimulatedRoots, options.BuiltInRoots = nil, true
	if _, err := sevsnp.Verify(attestation.Report, collateral, options); err == nil {
		t.Error("a simulated report ends in AMD's own roots")
	}
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}
