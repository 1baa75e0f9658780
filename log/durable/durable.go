// Package durable writes files that are, after a crash at any moment, either
// the old ones or the new ones, reads files of a bounded size, and locks a
// folder for one process.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path by data: it writes beside it, syncs,
// renames and syncs the folder, so that the name always leads to a whole file
// and the new one survives a power cut once WriteFile has returned nil. After
// an error the name leads to either.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, func(w io.Writer) error {
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		return nil
	})
}

// Write is WriteFile with what fill writes. An error of fill is returned as it
// is and leaves the file as it was.
func Write(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	f, err := Beside(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := fill(f); err != nil {
		return err
	}
	return f.Commit(path, perm)
}

// WriteNew is WriteFile for a file that must not exist yet: otherwise it leaves
// that file alone, and the error is an fs.ErrExist.
func WriteNew(path string, data []byte, perm fs.FileMode) error {
	f, err := Beside(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.CommitNew(path, perm)
}

// A File is written beside its final name and takes it in one step.
type File struct {
	*os.File
	committed bool
}

// Beside opens a temporary file in the folder of path. The caller writes it and
// then calls Commit, or Discard, which is always safe to defer.
func Beside(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern)
	if err != nil {
		return nil, fmt.Errorf("writing beside %s: %w", path, err)
	}
	return &File{File: f}, nil
}

// Commit syncs the file and gives it the name path, which has to be on the same
// file system. A file that has the name loses it.
func (f *File) Commit(path string, perm fs.FileMode) error {
	if err := f.finish(path, perm); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("renaming to %s: %w", path, err)
	}
	f.committed = true
	return SyncDir(filepath.Dir(path))
}

// CommitNew is Commit unless a file has the name: then it is an fs.ErrExist.
func (f *File) CommitNew(path string, perm fs.FileMode) error {
	if err := f.finish(path, perm); err != nil {
		return err
	}
	// link(2) never replaces, where rename(2) always does.
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("giving the name %s: %w", path, err)
	}
	f.Discard() // its first name only
	return SyncDir(filepath.Dir(path))
}

func (f *File) finish(path string, perm fs.FileMode) error {
	if err := f.Chmod(perm); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", path, err)
	}
	return nil
}

// Discard closes and removes the file unless it was committed.
func (f *File) Discard() {
	if f.committed {
		return
	}
	f.Close()
	os.Remove(f.Name())
}

// tempPattern is what os.CreateTemp makes names from; Sweep knows it too.
const (
	tempPrefix  = ".beside-"
	tempPattern = tempPrefix + "*"
)

// Sweep removes what a crash left half written in dir. Nothing may be writing
// there: hold the lock of the folder.
func Sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, tempPattern))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a half-written file: %w", err)
		}
	}
	return nil
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}

// MkdirAll makes dir and its parents, and syncs every folder that gained one.
func MkdirAll(dir string, perm fs.FileMode) error {
	if fi, err := os.Stat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the folder %s: %w", dir, err)
	}
	return SyncDir(parent)
}

// ErrLocked says that another process holds the folder.
var ErrLocked = errors.New("another process is using this folder; stop it first")
