//go:build linux

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// newRoot is where the root volume is mounted before it becomes the root.
const newRoot = "/root"

type mountPoint struct {
	kind, at string
	flags    uintptr
	options  string
}

const noFiles = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountKernelFileSystems mounts what the kernel itself shows: devices, its TPM
// event log (securityfs), and so on.
func mountKernelFileSystems() error {
	return mountAll([]mountPoint{
		{"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
		{"proc", "/proc", noFiles, ""},
		{"sysfs", "/sys", noFiles, ""},
		{"securityfs", "/sys/kernel/security", noFiles, ""},
	})
}

func mountAll(points []mountPoint) error {
	for _, p := range points {
		if err := unix.Mount(p.kind, p.at, p.kind, p.flags, p.options); err != nil {
			return fmt.Errorf("mounting %s at %s: %w", p.kind, p.at, err)
		}
	}
	return nil
}

func mountVolume(v guestconfig.Volume, at string) error {
	device, err := mapperDevice(v.Name)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, at, "erofs", unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting volume %s at %s: %w", v.Name, v.Mount, err)
	}
	return nil
}

// switchRoot makes newRoot the root, takes the kernel's file systems along and
// adds the only places that can be written to: memory.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s into the root volume: %w", dir, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return fmt.Errorf("entering the root volume: %w", err)
	}
	// The initrd is rootfs, which pivot_root(2) cannot leave: it is covered
	// instead, and nothing has a way back to it.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("making the root volume the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("making the root volume the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("making the root volume the root: %w", err)
	}
	if err := os.Mkdir("/dev/shm", 0o1777); err != nil {
		return fmt.Errorf("making /dev/shm: %w", err)
	}
	return mountAll([]mountPoint{
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	})
}
