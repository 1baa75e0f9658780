//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// SyncDir makes the names in dir last through a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing the folder %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing the folder %s: %w", dir, err)
	}
	return nil
}

// Lock takes the folder for this process until the returned function is called
// or the process ends, however it ends. It does not wait: a folder that is
// taken is [ErrLocked]. The lock is flock(2)'s, on a file named "lock" in dir,
// which also keeps a second opener in the same process out. Where there is no
// flock, the error is an errors.ErrUnsupported.
func Lock(dir string) (unlock func() error, err error) {
	return lock(dir, syscall.LOCK_EX|syscall.LOCK_NB)
}

// WaitLock is Lock, but waits until a taken folder is free.
func WaitLock(dir string) (unlock func() error, err error) {
	return lock(dir, syscall.LOCK_EX)
}

func lock(dir string, how int) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return f.Close, nil
}
