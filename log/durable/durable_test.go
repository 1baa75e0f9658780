package durable

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, data := range [][]byte{[]byte("a longer first version"), []byte("second"), {}} {
		if err := WriteFile(path, data, 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("read %q after writing %q", got, data)
		}
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode is %v, not -rw-r-----", fi.Mode().Perm())
	}
	if names := list(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("temporary files were left: %v", names)
	}
}

func TestDiscardAndSweepLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	discarded, err := Beside(path)
	if err != nil {
		t.Fatal(err)
	}
	discarded.Discard()
	// What a killed process leaves: neither committed nor discarded.
	if _, err := Beside(path); err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); len(names) != 2 {
		t.Fatalf("want the file and one half-written one, have %v", names)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); len(names) != 1 || names[0] != "state" {
		t.Fatalf("after sweeping there are %v", names)
	}
}

func TestLockIsExclusive(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second lock gives %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = Lock(dir)
	if err != nil {
		t.Fatalf("after unlocking: %v", err)
	}
	unlock()
}

func TestMkdirAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(file, 0o755); err == nil {
		t.Error("a file passed for a folder")
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
