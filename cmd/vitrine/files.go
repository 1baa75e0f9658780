package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// stdin is the name of standard input where a command reads a file.
const stdin = "-"

// fileName is a file's name in a message.
func fileName(path string) string {
	if path == stdin {
		return "standard input"
	}
	return path
}

// readFile reads a file, or standard input, of at most max bytes.
func readFile(path string, max int64) ([]byte, error) {
	f := os.Stdin
	if path != stdin {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, noSuch(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s is a folder; name a file", path)
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", fileName(path), err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s has more than %d bytes, the most that such a file may have", fileName(path), max)
	}
	return b, nil
}

// missing is the error for a file that is not there, in the words of a person.
type missing struct{ path string }

func (e *missing) Error() string   { return "there is no " + e.path }
func (e *missing) Is(t error) bool { return t == fs.ErrNotExist }

// noSuch puts the commonest mistake, a wrong name, into words.
func noSuch(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && errors.Is(err, fs.ErrNotExist) {
		return &missing{at.Path}
	}
	return err
}

// newFile is a file that must not exist yet.
type newFile struct {
	path string
	data []byte
	perm fs.FileMode
}

// writeNew writes files that must not exist yet: all or none, each whole.
func writeNew(files ...newFile) (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range made {
				os.Remove(path)
			}
		}
	}()
	for _, n := range files {
		err := durable.WriteNew(n.path, n.data, n.perm)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists; choose another name or move it away", n.path)
		}
		if err != nil {
			return err
		}
		made = append(made, n.path)
	}
	return nil
}

// replaceFile writes beside the file, syncs and renames.
func replaceFile(path string, data []byte) error {
	// A name such as /dev/stdout would lose what it stands for.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is there and is no file; choose another name", path)
	}
	return durable.WriteFile(path, data, 0o644)
}
