//go:build linux

package main

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// TestDependencies holds what is part of every user's trusted base. Whoever
// adds to it has to do so here as well.
func TestDependencies(t *testing.T) {
	list := func(format string) []string {
		out, err := exec.Command("go", "list", "-deps", "-f", format, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	want := []string{
		"golang.org/x/sys/unix",
		"github.com/containerd/go-dmverity/pkg/dm",
		"github.com/vitrine-dev/vitrine/builder/image/guestconfig",
		"github.com/vitrine-dev/vitrine/cmd/vitrine-init",
	}
	if got := list("{{if not .Standard}}{{.ImportPath}}{{end}}"); !slices.Equal(got, want) {
		t.Errorf("init depends on %v, want %v", got, want)
	}
	for _, p := range list("{{if .Standard}}{{.ImportPath}}{{end}}") {
		for _, banned := range []string{"net", "net/http", "os/exec", "plugin", "crypto/tls", "runtime/cgo"} {
			if p == banned {
				t.Errorf("init depends on %s", p)
			}
		}
	}
}

func TestNotAsOrdinaryProgram(t *testing.T) {
	name := filepath.Join(t.TempDir(), "init")
	if out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(name).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "does nothing as an ordinary program") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCheckInvocation(t *testing.T) {
	for _, c := range []struct {
		args, env []string
		ok        bool
	}{
		{[]string{"/init"}, []string{"HOME=/", "TERM=linux"}, true},
		{[]string{"/init"}, nil, true},
		{[]string{"/init", "single"}, []string{"HOME=/", "TERM=linux"}, false},
		{[]string{"/init"}, []string{"HOME=/", "TERM=linux", "GODEBUG=netdns=go"}, false},
		{[]string{"/init"}, []string{"HOMES=/"}, false},
	} {
		if err := checkInvocation(c.args, c.env); (err == nil) != c.ok {
			t.Errorf("%q %q: %v", c.args, c.env, err)
		}
	}
}

func TestFindPartition(t *testing.T) {
	uevent := func(lines ...string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
	}
	disks := fstest.MapFS{
		"vda/uevent":  uevent("MAJOR=254", "DEVNAME=vda", "DEVTYPE=disk"),
		"vda1/uevent": uevent("DEVNAME=vda1", "DEVTYPE=partition", "PARTN=1", "PARTNAME=vitrine-esp"),
		"vda2/uevent": uevent("DEVNAME=vda2", "DEVTYPE=partition", "PARTN=2", "PARTNAME=vitrine-root"),
		"vdb1/uevent": uevent("DEVNAME=vdb1", "DEVTYPE=partition", "PARTN=1", "PARTNAME=twice"),
		"vdc1/uevent": uevent("DEVNAME=vdc1", "DEVTYPE=partition", "PARTN=1", "PARTNAME=twice"),
		"vdd/uevent":  uevent("DEVNAME=vdd", "DEVTYPE=disk", "PARTNAME=whole"),
	}
	for label, want := range map[string]string{
		"vitrine-root": "/dev/vda2",
		"vitrine":      "",
		"whole":        "", // a disk that names itself is no partition
		"":             "",
		"twice":        "two partitions",
	} {
		got, err := findPartition(disks, label)
		if err != nil {
			got = err.Error()
		}
		if want == "two partitions" && strings.Contains(got, want) {
			continue
		}
		if got != want {
			t.Errorf("%q: %q, want %q", label, got, want)
		}
	}
}

// badBlocks reads as zeros and fails at one block, for a number of times.
type badBlocks struct {
	at    int64
	times int
	reads map[int64]bool
}

func (b *badBlocks) ReadAt(p []byte, off int64) (int, error) {
	for at := off; at < off+int64(len(p)); at += guestconfig.BlockSize {
		b.reads[at/guestconfig.BlockSize] = true
	}
	if b.times > 0 && off <= b.at && b.at < off+int64(len(p)) {
		b.times--
		return 0, unix.EIO
	}
	return len(p), nil
}

var _ io.ReaderAt = (*badBlocks)(nil)

func TestReadAll(t *testing.T) {
	for _, c := range []struct {
		blocks    uint64
		bad       int64 // block
		times     int
		complaint string // "": none
	}{
		{1, -1, 0, ""},
		{1000, -1, 0, ""},
		{1000, 0, 9, "block 0 (bytes 0 to 4095)"},
		{1000, 777, 9, "block 777 (bytes 3182592 to 3186687)"},
		{1000, 999, 9, "block 999 (bytes 4091904 to 4095999)"},
		{1000, 999, 1, "the disk changes"},
	} {
		r := &badBlocks{at: c.bad * guestconfig.BlockSize, times: c.times, reads: map[int64]bool{}}
		err := readAll(r, guestconfig.Volume{Name: "root", DataBlocks: c.blocks})
		if c.complaint == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			if len(r.reads) != int(c.blocks) {
				t.Errorf("%+v: %d blocks were read", c, len(r.reads))
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestMask(t *testing.T) {
	for bits, want := range map[int][4]byte{0: {}, 8: {255}, 24: {255, 255, 255}, 31: {255, 255, 255, 254}, 32: {255, 255, 255, 255}} {
		if got := mask(bits); got != want {
			t.Errorf("/%d is %v, want %v", bits, got, want)
		}
	}
}

func TestEnding(t *testing.T) {
	for status, want := range map[unix.WaitStatus]string{
		0x0000: "ended with status 0",
		0x0700: "ended with status 7",
		0x0009: "was ended by signal 9 (killed)",
		0x008b: "was ended by signal 11 (segmentation fault)",
	} {
		if got := ending(status); got != want {
			t.Errorf("%#x: %q, want %q", int(status), got, want)
		}
	}
}
