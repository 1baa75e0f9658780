package builder

import (
	"io/fs"
	"os"
	"path/filepath"
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
