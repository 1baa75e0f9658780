package builder

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// removeAll is os.RemoveAll for folders that were made read-only, as a module
// cache is. Nothing depends on its success: the folder is temporary.
func removeAll(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// setTimes gives every file below dir the time of the build's clock, so that a
// clock that must not matter is also seen by whoever looks at files.
func setTimes(dir string, t time.Time) error {
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, t, t)
	})
	if err != nil {
		return fmt.Errorf("setting the times of the unpacked module: %w", err)
	}
	return nil
}
