// Package swtpm runs software TPMs for tests.
package swtpm

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// startTimeout is how long a TPM may take to open its socket.
const startTimeout = 10 * time.Second

// Start runs a TPM, powered on, over the state folder until stop is called or
// the test ends. It skips the test where swtpm is not installed.
func Start(t testing.TB, state string) (tpm transport.TPM, stop func()) {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("swtpm is not installed: apt-get install swtpm")
	}
	// Not in the state folder: a Unix socket's path may have 107 bytes only.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	command := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = command.Wait(); close(exited) }()
	stop = func() {
		_ = command.Process.Signal(os.Interrupt)
		<-exited
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return transport.FromReadWriter(c), stop
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm did not open its socket within %v", startTimeout)
		}
	}
}
