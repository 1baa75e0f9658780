//go:build !unix

package durable

import (
	"errors"
	"fmt"
)

// SyncDir does nothing where a folder cannot be synced.
func SyncDir(string) error { return nil }

// Lock is an errors.ErrUnsupported where there is no flock.
func Lock(dir string) (unlock func() error, err error) {
	return nil, fmt.Errorf("locking %s: %w", dir, errors.ErrUnsupported)
}

// WaitLock is an errors.ErrUnsupported where there is no flock.
func WaitLock(dir string) (unlock func() error, err error) { return Lock(dir) }
