//go:build linux

package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vitrine-dev/vitrine/node/attestationkey"
)

func need(t *testing.T) {
	t.Helper()
	if ok, missing := Available(); !ok {
		if os.Getenv("VITRINE_REQUIRE_BOOT") == "1" {
			t.Fatalf("this machine lacks %v", missing)
		}
		t.Skipf("this machine lacks %v: install %v", missing, Packages)
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestProcessStop(t *testing.T) {
	// The first ignores the polite request, and has a child of its own.
	p, err := startProcess("sh", exec.Command("sh", "-c", `trap "" TERM; sleep 1000 & echo $! >&2; while :; do sleep 0.05; done`))
	if err != nil {
		t.Fatal(err)
	}
	for p.stderr.String() == "" {
		time.Sleep(10 * time.Millisecond)
	}
	p.stop(100 * time.Millisecond)
	if !gone(p.pid) {
		t.Error("the process still runs")
	}
	for end := time.Now().Add(10 * time.Second); !gone(-p.pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("its process group still runs")
		}
	}
	if p.failure() == nil {
		t.Error("being killed is no failure")
	}
	p.stop(0) // again
	if _, err := startProcess("nothing", exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist was started")
	}
}

// TestKeySurvives makes the attestation key twice on one TPM and once on another.
func TestKeySurvives(t *testing.T) {
	need(t)
	key := func(dir string) (public []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := WithTPM(ctx, dir, func(tpm transport.TPM) error {
			k, err := attestationkey.Create(tpm)
			if err != nil {
				return err
			}
			public = k.Public
			return k.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		return public
	}
	a, b := t.TempDir(), t.TempDir()
	first := key(a)
	if !bytes.Equal(first, key(a)) {
		t.Error("one TPM makes two keys from one template")
	}
	if bytes.Equal(first, key(b)) {
		t.Error("two TPMs make the same key")
	}
}

func TestWithTPMFails(t *testing.T) {
	need(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mine := errors.New("mine")
	if err := WithTPM(ctx, t.TempDir(), func(transport.TPM) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the error of the callback is lost: %v", err)
	}
	if err := WithTPM(ctx, filepath.Join(t.TempDir(), "a,b"), func(transport.TPM) error { return nil }); err == nil {
		t.Error("a folder with a comma was accepted")
	}
	// A context that ends frees a caller that waits for an answer.
	short, cancel := context.WithCancel(ctx)
	err := WithTPM(short, t.TempDir(), func(tpm transport.TPM) error {
		cancel()
		for {
			if _, err := tpm.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x43, 0, 0}); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestStop cancels, stops and fails machines long before they have booted.
func TestStop(t *testing.T) {
	need(t)
	disk := filepath.Join(t.TempDir(), "disk, with a comma.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, stop := range map[string]func(cancel context.CancelFunc, m *VM){
		"cancelled": func(cancel context.CancelFunc, m *VM) { cancel() },
		"stopped":   func(_ context.CancelFunc, m *VM) { _ = m.Stop() },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		m, err := Start(ctx, Config{Disk: disk, StateDir: t.TempDir(), MemoryMB: 256, Forward: map[int]int{80: 0, 81: 0}})
		if err != nil {
			t.Fatal(err)
		}
		if m.Addr(80) == "" || m.Addr(80) == m.Addr(81) || m.Addr(82) != "" {
			t.Errorf("ports: %q, %q, %q", m.Addr(80), m.Addr(81), m.Addr(82))
		}
		stop(cancel, m)
		wait, cancelWait := context.WithTimeout(context.Background(), 30*time.Second)
		_ = m.Wait(wait)
		if err := m.WaitForConsole(wait, "never said"); err == nil || wait.Err() != nil {
			t.Errorf("%s: waiting for words of a machine that is off: %v", name, err)
		}
		cancelWait()
		cancel()
		if !gone(m.qemu.pid) || !gone(m.tpm.pid) {
			t.Errorf("%s: QEMU or swtpm still runs", name)
		}
	}
	if _, err := Start(context.Background(), Config{Disk: disk + "x", StateDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("a disk that is not there: %v", err)
	}
	if _, err := Start(context.Background(), Config{Disk: disk, StateDir: t.TempDir(), Forward: map[int]int{0: 0}}); err == nil {
		t.Error("port 0 of the guest was forwarded")
	}
}

// TestDiesWithUs kills a program that runs a machine, without warning.
func TestDiesWithUs(t *testing.T) {
	need(t)
	const variable = "VITRINE_VM_TEST_DISK"
	if disk := os.Getenv(variable); disk != "" {
		m, err := Start(context.Background(), Config{Disk: disk, StateDir: filepath.Dir(disk), MemoryMB: 256})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("PIDS", m.qemu.pid, m.tpm.pid)
		select {}
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithUs$")
	cmd.Env = append(os.Environ(), variable+"="+disk)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var qemu, tpm int
	for s := bufio.NewScanner(out); qemu == 0 && s.Scan(); {
		if line := s.Text(); strings.HasPrefix(line, "PIDS") {
			if _, err := fmt.Sscanf(line, "PIDS %d %d", &qemu, &tpm); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if qemu == 0 || tpm == 0 {
		t.Fatal("no machine was started")
	}
	for end := time.Now().Add(10 * time.Second); !dead(qemu) || !dead(tpm); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("QEMU or swtpm still runs")
		}
	}
}

// dead also counts a zombie that whoever inherited it has not collected.
func dead(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}

func TestConsoleIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	c, err := newConsole(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("x"), maxConsoleBytes/2+1)
	for range 3 {
		if n, err := c.Write(chunk); n != len(chunk) || err != nil {
			t.Fatal(n, err)
		}
	}
	c.end()
	if fi, err := os.Stat(name); err != nil || fi.Size() != maxConsoleBytes || len(c.text()) != maxConsoleBytes {
		t.Errorf("kept %d bytes", len(c.text()))
	}
}

// TestAddVariable reads back what it wrote, in the firmware's real file.
func TestAddVariable(t *testing.T) {
	need(t)
	vars, err := os.ReadFile(FirmwareVars)
	if err != nil {
		t.Fatal(err)
	}
	out, err := addVariable(vars, "BootOrder", []byte{0x42, 0})
	if err == nil {
		out, err = addVariable(out, "Boot0042", []byte("xyz"))
	}
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(out, utf16z("Boot0042")) - variableBytes
	if at%4 != 0 || binary.LittleEndian.Uint16(out[at:]) != variableStart || string(out[at+variableBytes+18:][:3]) != "xyz" {
		t.Errorf("the variable at %#x is not in its place", at)
	}
	if at2 := bytes.Index(out, utf16z("BootOrder")); at2 < 0 || at2 > at {
		t.Error("the first variable is gone")
	}
	if _, err := addVariable(vars, "Large", make([]byte, len(vars))); err == nil {
		t.Error("a variable larger than the file was added")
	}
	if _, err := addVariable(make([]byte, 100), "X", nil); err == nil {
		t.Error("a variable was added to nothing")
	}
}
