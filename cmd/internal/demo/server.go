//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	erofs "github.com/erofs/go-erofs"
)

// startServer takes the inference server out of the image's root file system,
// and runs it on this machine: a simulated node boots nothing.
func (s *story) startServer(ctx context.Context, address string) error {
	f, err := os.Open(s.imageFile("root.erofs"))
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := erofs.Open(f)
	if err != nil {
		return fmt.Errorf("reading the image's root file system: %w", err)
	}
	program, err := fs.ReadFile(root, "usr/bin/inference-server")
	if err != nil {
		return err
	}
	path := s.path("inference-server")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return err
	}
	cmd := exec.Command(path, "-listen", address)
	if err := s.fork(cmd); err != nil {
		return fmt.Errorf("starting the inference server: %w", err)
	}
	s.cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	s.say("   the inference server of the image runs at %s", address)
	for range 100 {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the inference server did not start")
}
