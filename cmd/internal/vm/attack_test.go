//go:build linux

package vm_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/cmd/internal/vm"
	"github.com/vitrine-dev/vitrine/cmd/internal/vm/esp"
)

func tamperedDisk(t *testing.T, out *image.Output) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := vm.CopyDisk(out.Path(image.DiskName), disk); err != nil {
		t.Fatal(err)
	}
	return disk
}

// TestFlippedBit changes one bit of a file that nothing opens. Init has to name
// its block and power off before anything of the root has run.
func TestFlippedBit(t *testing.T) {
	out := mustImage(t)
	disk := tamperedDisk(t, out)
	block, err := vm.FlipBit(disk, []byte("nothing ever opens this file"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	m, err := vm.Start(ctx, vm.Config{Disk: disk, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	if err := m.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("vitrine-init: volume root: block %d (bytes %d to %d) does not match root hash %s",
		block, block*4096, block*4096+4095, out.Volumes[0].RootHash)
	if !strings.Contains(m.ConsoleText(), want) {
		t.Errorf("the console does not say %q:\n%s", want, m.ConsoleText())
	}
	for _, never := range []string{"service probe", "probe: ", "Kernel panic"} {
		if strings.Contains(m.ConsoleText(), never) {
			t.Errorf("the console says %q", never)
		}
	}
}

// TestChangeWhileRunning changes the disk after init has read all of it. The
// kernel has to end the machine at the first read of the changed block.
func TestChangeWhileRunning(t *testing.T) {
	out := mustImage(t)
	disk := tamperedDisk(t, out)
	m, _ := boot(t, vm.Config{Disk: disk, StateDir: t.TempDir()})
	if _, err := vm.FlipBit(disk, []byte("nothing ever opens this file")); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get("http://" + m.Addr(8080) + "/read?path=/usr/share/unread"); err == nil {
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Errorf("the guest read the changed file: %s", b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
	if want := "Kernel panic - not syncing: dm-verity device corrupted"; !strings.Contains(m.ConsoleText(), want) {
		t.Errorf("the console does not say %q:\n%s", want, m.ConsoleText())
	}
}

// TestLoadOptions boots by a boot entry that brings its own command line. It
// boots, PCR 4 and 11 do not show it, and 9 and 12 do.
func TestLoadOptions(t *testing.T) {
	out := mustImage(t)
	const options = commandLine + " vitrine.attack=1"
	_, r := boot(t, vm.Config{Disk: out.Path(image.DiskName), StateDir: t.TempDir(), LoadOptions: options})
	if r.CommandLine != options {
		t.Fatalf("the command line is %q: the attack did not happen", r.CommandLine)
	}
	if got, want := differing(t, predict(t, out), r.PCRs), []string{"pcr9", "pcr12"}; !slices.Equal(got, want) {
		t.Errorf("registers that differ are %v, want %v", got, want)
	}
}

// TestCredential adds a file to the EFI system partition that systemd-stub
// appends to the initrd. It boots, PCR 4 and 11 do not show it, and 9 and 12 do.
func TestCredential(t *testing.T) {
	out := mustImage(t)
	disk := tamperedDisk(t, out)
	if err := esp.AddFile(disk, "loader/credentials/x.cred", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	_, r := boot(t, vm.Config{Disk: disk, StateDir: t.TempDir()})
	if got, want := differing(t, predict(t, out), r.PCRs), []string{"pcr9", "pcr12"}; !slices.Equal(got, want) {
		t.Errorf("registers that differ are %v, want %v", got, want)
	}
}
