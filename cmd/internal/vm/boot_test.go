//go:build linux

package vm_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/cmd/internal/vm"
	"github.com/vitrine-dev/vitrine/node/attestationkey"
)

// bootTimeout is generous: without KVM a boot takes 15 to 30 seconds, more when
// other tests use the same cores.
const bootTimeout = 4 * time.Minute

const commandLine = "console=ttyS0 panic=-1"

// needBoot skips a test that boots a machine where none can be booted, unless
// VITRINE_REQUIRE_BOOT=1 makes that a failure.
func needBoot(t *testing.T) {
	t.Helper()
	why := ""
	if ok, missing := vm.Available(); !ok {
		why = fmt.Sprintf("no real boot: this machine lacks %s: install %s", strings.Join(missing, ", "), strings.Join(vm.Packages, " "))
	}
	if testing.Short() {
		why = "no real boot: -short"
	}
	if why != "" {
		skip(t, why)
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("VITRINE_REQUIRE_BOOT") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// testImage builds the one image that all boots use.
var testImage = sync.OnceValues(func() (*image.Output, error) {
	dir, err := os.MkdirTemp("", "vitrine-vm-test-")
	if err != nil {
		return nil, err
	}
	testFolder = dir
	kernel, stub, err := debianParts(dir)
	if err != nil {
		return nil, err
	}
	programs := map[string]image.Content{}
	for name, pkg := range map[string]string{"init": "../../vitrine-init", "probe": "./testdata/probe"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w: %s", pkg, err, out)
		}
		if programs[name], err = image.File(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	// A file that nothing opens: one flipped bit in it has to be noticed.
	unread := make([]byte, 256<<10)
	copy(unread, "nothing ever opens this file")
	return image.Assemble(context.Background(), image.Spec{
		Epoch:  time.Unix(1_760_000_000, 0),
		Kernel: kernel.Image, KernelRelease: kernel.Release, Modules: kernel.Modules, Stub: stub,
		CommandLine: commandLine,
		Init:        programs["init"],
		Network:     &guestconfig.Network{Interface: "eth0", Address: "10.0.2.15/24", Gateway: "10.0.2.2"},
		Services:    []guestconfig.Service{{Name: "probe", Argv: []string{"/usr/bin/probe"}, Env: []string{"PROBE=1"}}},
		Volumes: []image.Volume{
			{Name: "root", Mount: "/", Entries: []image.Entry{
				image.RegularFile("usr/bin/probe", 0o755, programs["probe"]),
				image.RegularFile("usr/share/unread", 0o644, image.Bytes(unread)),
			}},
			{Name: "weights", Mount: "/srv/weights", Entries: []image.Entry{
				image.RegularFile("model.bin", 0o444, image.Bytes([]byte("weights"))),
			}},
		},
		Disk: true,
	}, filepath.Join(dir, "image"))
})

var testFolder string

func TestMain(m *testing.M) {
	code := m.Run()
	if testFolder != "" {
		_ = os.RemoveAll(testFolder)
	}
	os.Exit(code)
}

// modules are what Debian 12's kernel needs and has not built in.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
	"failover", "net_failover", "virtio_net",
	"dm-mod", "dm-bufio", "reed_solomon", "dm-verity", "libcrc32c", "erofs",
}

var errNoPackages = errors.New("no kernel to boot")

// debianParts downloads kernel and EFI stub as packages, which are unpacked and
// never installed.
func debianParts(dir string) (*image.Kernel, image.Content, error) {
	fail := func(err error) (*image.Kernel, image.Content, error) { return nil, image.Content{}, err }
	depends, err := exec.Command("apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return fail(fmt.Errorf("%w: asking apt for a kernel: %w", errNoPackages, err))
	}
	kernelPackage := regexp.MustCompile(`linux-image-[0-9][^ \n]*-cloud-amd64`).FindString(string(depends))
	if kernelPackage == "" {
		return fail(fmt.Errorf("%w: apt knows no linux-image-*-cloud-amd64: run apt-get update", errNoPackages))
	}
	cmd := exec.Command("apt-get", "download", "-qq", kernelPackage, "systemd-boot-efi")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("%w: downloading %s and systemd-boot-efi (run apt-get update first): %w: %s", errNoPackages, kernelPackage, err, out))
	}
	open := func(pattern string) (*os.File, error) {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) != 1 {
			return nil, fmt.Errorf("apt-get download left %v as %s", names, pattern)
		}
		return os.Open(names[0])
	}
	f, err := open("linux-image-*.deb")
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	kernel, err := image.KernelFromDeb(f, modules)
	if err != nil {
		return fail(err)
	}
	g, err := open("systemd-boot-efi*.deb")
	if err != nil {
		return fail(err)
	}
	defer g.Close()
	stub, err := image.StubFromDeb(g)
	return kernel, stub, err
}

type report struct {
	PCRs                                                 map[string]string
	CommandLine                                          string
	Environment                                          []string
	Root, WriteRoot, WriteTmp, IPv6, DialOut, Doors, Key string
	EventLog                                             []byte
}

// boot starts a machine and gives the probe's report.
func boot(t *testing.T, c vm.Config) (*vm.VM, *report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	t.Cleanup(cancel)
	c.Forward = map[int]int{8080: 0}
	if testing.Verbose() {
		c.Console = os.Stderr
	}
	began := time.Now()
	m, err := vm.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	if err := m.WaitForConsole(ctx, "probe: listening"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + m.Addr(8080) + "/report")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v: %s", resp.Status, err, b)
	}
	t.Logf("first answer after %v", time.Since(began).Round(100*time.Millisecond))
	r := &report{}
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return m, r
}

// predict computes the PCRs from the files alone.
func predict(t *testing.T, out *image.Output) map[string]string {
	t.Helper()
	section := func(name string) *io.SectionReader {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return io.NewSectionReader(f, 0, fi.Size())
	}
	r, err := measure.TPM(measure.TPMInput{UKI: section(out.Path(image.UKIName)), Disk: section(out.Path(image.DiskName)), Vars: section(vm.FirmwareVars)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Registers
}

func mustImage(t *testing.T) *image.Output {
	t.Helper()
	needBoot(t)
	out, err := testImage()
	if errors.Is(err, errNoPackages) {
		skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// differing lists the predicted registers that the machine does not report.
func differing(t *testing.T, predicted, reported map[string]string) (names []string) {
	t.Helper()
	for i := range 16 {
		name := fmt.Sprintf("pcr%d", i)
		want, ok := predicted[name]
		if ok && reported[name] != want {
			names = append(names, name)
		}
	}
	return names
}

func TestGenuineBoot(t *testing.T) {
	out := mustImage(t)
	state := t.TempDir()
	var before []byte
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := vm.WithTPM(ctx, state, func(tpm transport.TPM) error {
		key, err := attestationkey.Create(tpm)
		if err != nil {
			return err
		}
		before = key.Public
		return key.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	m, r := boot(t, vm.Config{Disk: out.Path(image.DiskName), StateDir: state})

	predicted := predict(t, out)
	for _, name := range []string{"pcr2", "pcr4", "pcr5", "pcr7", "pcr9", "pcr11", "pcr12", "pcr13", "pcr15"} {
		if predicted[name] == "" {
			t.Errorf("%s was not predicted", name)
		}
	}
	for _, name := range differing(t, predicted, r.PCRs) {
		t.Errorf("%s is %s in the machine, predicted %s", name, r.PCRs[name], predicted[name])
	}
	if r.Key != hex.EncodeToString(before) {
		t.Errorf("the attestation key in the guest is %s, before the boot it was %x", r.Key, before)
	}
	for what, c := range map[string][2]string{
		"command line":          {r.CommandLine, commandLine},
		"environment":           {strings.Join(r.Environment, " "), "PROBE=1"},
		"root file system":      {strings.Fields(r.Root)[0], "erofs"},
		"writing to / ":         {r.WriteRoot, "read-only file system"},
		"writing to /tmp":       {r.WriteTmp, ""},
		"modules, kexec, sysrq": {r.Doors, "110"},
		"IPv6 on eth0":          {fmt.Sprint(strings.Contains(r.IPv6, "eth0")), "false"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", what, c[0], c[1])
		}
	}
	if r.DialOut == "" {
		t.Error("the guest reached the host's network")
	}
	if len(r.EventLog) == 0 {
		t.Error("the guest sees no event log")
	}
	// A service that ends takes the machine with it.
	if resp, err := http.Get("http://" + m.Addr(8080) + "/exit"); err == nil {
		resp.Body.Close()
	}
	ctx, cancel = context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
	if !strings.Contains(m.ConsoleText(), "vitrine-init: service probe ended with status 7: powering off") {
		t.Errorf("console: %s", m.ConsoleText())
	}
}
