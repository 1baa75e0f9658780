//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// maxFiles is the limit of open files for services: one connection is one file.
const maxFiles = 1 << 16

// serve starts the services, collects whatever children die (orphans become
// init's), and returns when one of the services has ended.
func serve(services []guestconfig.Service) error {
	if len(services) == 0 {
		return errors.New("the image lists no service: there is nothing to do")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: maxFiles, Max: maxFiles}); err != nil {
		return fmt.Errorf("raising the limit of open files: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("starting services: %w", err)
	}
	defer null.Close()
	names := map[int]string{}
	for _, s := range services {
		pid, err := start(s, null.Fd())
		if err != nil {
			return err
		}
		names[pid] = s.Name
		say("service %s: started", s.Name)
	}
	return waitForEnd(names)
}

func start(s guestconfig.Service, null uintptr) (int, error) {
	pid, err := syscall.ForkExec(s.Argv[0], s.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   s.Env,
		Files: []uintptr{null, os.Stdout.Fd(), os.Stderr.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: s.UID, Gid: s.GID},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("service %s: starting %s: %w", s.Name, s.Argv[0], err)
	}
	return pid, nil
}

func waitForEnd(names map[int]string) error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("waiting for services: %w", err)
		}
		name, ok := names[pid]
		if !ok {
			continue
		}
		return fmt.Errorf("service %s %s", name, ending(status))
	}
}

func ending(status unix.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("was ended by signal %d (%v)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("ended with status %d", status.ExitStatus())
}
