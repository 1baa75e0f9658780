//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

const tpmFolder = "tpm"

// prepareState makes the state folder and gives its absolute path.
func prepareState(stateDir string) (string, error) {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return "", err
	}
	// swtpm separates options with commas and has no way to quote one.
	if strings.ContainsAny(dir, ",\n") {
		return "", fmt.Errorf("the state folder %q has a comma in its name, which swtpm cannot take: choose another", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, tpmFolder), 0o700); err != nil {
		return "", err
	}
	return dir, nil
}

// startTPM starts swtpm over the state in dir, with one end of a socket pair as
// its channel, and gives the other end. swtpm ends when that one is closed. It
// makes a new TPM with seeds of its own when there is no state yet.
func startTPM(dir string, channel ...string) (*process, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("starting swtpm: %w", err)
	}
	// Not blocking, so that closing our end wakes up whoever reads from it.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("starting swtpm: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "tpm"), os.NewFile(uintptr(fds[1]), "tpm")
	defer theirs.Close()
	cmd := exec.Command(swtpmProgram, append([]string{
		"socket", "--tpm2", "--terminate", "--tpmstate", "dir=" + filepath.Join(dir, tpmFolder)}, channel...)...)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	p, err := startProcess(swtpmProgram, cmd)
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	return p, ours, nil
}

// WithTPM switches on the TPM of the machine whose state lies in stateDir, lets
// use talk to it, and shuts it down. The machine must be off. State that does
// not exist yet is made, so that the public part of a primary key is known
// before the first boot: it depends on the TPM's seed and the template alone.
func WithTPM(ctx context.Context, stateDir string, use func(transport.TPM) error) (err error) {
	wrap := func(err error) error { return fmt.Errorf("using the TPM in %s: %w", stateDir, err) }
	dir, err := prepareState(stateDir)
	if err != nil {
		return wrap(err)
	}
	p, channel, err := startTPM(dir, "--fd", "3", "--flags", "not-need-init,startup-clear")
	if err != nil {
		return wrap(err)
	}
	defer context.AfterFunc(ctx, func() { p.stop(0) })()
	defer func() {
		channel.Close()
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
		}
		p.stop(0)
		if err != nil {
			err = wrap(errors.Join(err, ctx.Err(), p.failure()))
		}
	}()
	tpm := transport.FromReadWriter(channel)
	if err := use(tpm); err != nil {
		return err
	}
	// Without it the TPM counts the next start as one after a power failure.
	_, err = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(tpm)
	return err
}
