package builder

import (
	archive "archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

// pack packs packages of the module in folder.
func pack(t *testing.T, folder string, packages ...string) ([]byte, string, string, error) {
	t.Helper()
	home := t.TempDir()
	tools, err := tinyTools().prepare(home)
	if err != nil {
		t.Fatal(err)
	}
	return packModule(t.Context(), tools, home, folder, packages)
}

func zipNames(t *testing.T, b []byte) []string {
	t.Helper()
	z, err := archive.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	return names
}

func TestPackModule(t *testing.T) {
	b, path, h1, err := pack(t, "testdata/tiny/program", "./server")
	if err != nil {
		t.Fatal(err)
	}
	if path != "vitrine.test/program" || checkH1(h1) != nil {
		t.Errorf("path %q, hash %q", path, h1)
	}
	// Only what the package is compiled from: not another command, and no file
	// for another system.
	const prefix = "vitrine.test/program@v0.0.0/"
	want := []string{prefix + "embedded/embedded.go", prefix + "embedded/text.txt", prefix + "go.mod", prefix + "server/main.go"}
	if got := zipNames(t, b); !slices.Equal(got, want) {
		t.Errorf("packed %q, want %q", got, want)
	}
	// The same files elsewhere, newer, with other modes and in another order.
	elsewhere := filepath.Join(t.TempDir(), "deeper", "program")
	copyTree(t, "testdata/tiny/program", elsewhere)
	again, _, _, err := pack(t, elsewhere, "./server")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, b) {
		t.Error("a copy of the module is packed to other bytes")
	}
}

// copyTree copies files in reverse order and with mode 0600.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	var names []string
	err := filepath.Walk(from, func(p string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(names)
	for _, name := range names {
		rel, err := filepath.Rel(from, name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, rel), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPackModuleRefuses(t *testing.T) {
	const program = "package main\n\nfunc main() {}\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no module":           {map[string]string{"main.go": program}, "no go.mod"},
		"no such package":     {map[string]string{"go.mod": "module x.test/y\n\ngo 1.26.0\n"}, "go list"},
		"a path without dot":  {map[string]string{"go.mod": "module server\n\ngo 1.26.0\n", "main.go": program}, "example.org/server"},
		"a dependency beside": {map[string]string{"go.mod": "module x.test/y\n\ngo 1.26.0\n\nrequire z.test/z v0.0.0\n\nreplace z.test/z => ./z\n", "main.go": "package main\n\nimport _ \"z.test/z\"\n\nfunc main() {}\n", "z/go.mod": "module z.test/z\n\ngo 1.26.0\n", "z/z.go": "package z\n"}, "which a rebuilder does not have"},
		"a newer Go":          {map[string]string{"go.mod": "module x.test/y\n\ngo 1.99.0\n", "main.go": program}, "GOTOOLCHAIN=local"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, _, err := pack(t, dir, "."); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestPackModuleStaysInside puts a symbolic link to a folder elsewhere into a
// module, as a checkout may hold one.
func TestPackModuleStaysInside(t *testing.T) {
	elsewhere, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(elsewhere, "main.go"): "package main\n\nfunc main() { println(`sesame`) }\n",
		filepath.Join(dir, "go.mod"):        "module x.test/y\n\ngo 1.26.0\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, "server")); err != nil {
		t.Fatal(err)
	}
	if b, _, _, err := pack(t, dir, "./server"); err == nil {
		t.Errorf("packed are %q", zipNames(t, b))
	}
}

func TestModuleVersion(t *testing.T) {
	for path, want := range map[string]string{"x.test/y": "v0.0.0", "x.test/y/v2": "v2.0.0", "gopkg.in/yaml.v3": "v3.0.0"} {
		if got := moduleVersion(path).Version; got != want || checkModulePath(path) != nil {
			t.Errorf("%s: got %s, %v, want %s", path, got, checkModulePath(path), want)
		}
	}
}

// zipMember is one file of a hostile zip.
type zipMember struct {
	name string
	mode os.FileMode
	text string
	size uint64 // declared, if not that of text
}

func hostileZip(t *testing.T, members ...zipMember) string {
	t.Helper()
	var buf bytes.Buffer
	z := archive.NewWriter(&buf)
	for _, m := range members {
		h := &archive.FileHeader{Name: m.name, Method: archive.Deflate}
		h.SetMode(m.mode | 0o644)
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	b := buf.Bytes()
	for _, m := range members {
		if m.size != 0 { // a size in the directory that is not that of the content
			old := []byte{byte(len(m.text)), byte(len(m.text) >> 8), byte(len(m.text) >> 16), byte(len(m.text) >> 24)}
			i := bytes.LastIndex(b, old)
			copy(b[i:], []byte{byte(m.size), byte(m.size >> 8), byte(m.size >> 16), byte(m.size >> 24)})
		}
	}
	name := filepath.Join(t.TempDir(), "module.zip")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestUnpackHostile unpacks modules that want to leave their folder, or to fill
// the disk. Such a zip has the digest that the lock names: the publisher is who
// attacks the rebuilder.
func TestUnpackHostile(t *testing.T) {
	const prefix = "x.test/y@v0.0.0/"
	good := zipMember{name: prefix + "go.mod", text: "module x.test/y\n"}
	for name, members := range map[string][]zipMember{
		"a path above":           {good, {name: prefix + "../../escaped", text: "x"}},
		"an absolute path":       {good, {name: "/escaped", text: "x"}},
		"outside of the prefix":  {good, {name: "escaped", text: "x"}},
		"a backslash":            {good, {name: prefix + `..\escaped`, text: "x"}},
		"names by case only":     {good, {name: prefix + "a.go", text: "x"}, {name: prefix + "A.go", text: "y"}},
		"the same name twice":    {good, {name: prefix + "a.go", text: "x"}, {name: prefix + "a.go", text: "y"}},
		"a bomb":                 {good, {name: prefix + "a.go", text: strings.Repeat("\x00", 64<<20), size: 10}},
		"a bomb that says so":    {good, {name: prefix + "a.go", text: "x", size: 1 << 31}},
		"a link, written as one": {good, {name: prefix + "link", mode: os.ModeSymlink, text: "/etc"}, {name: prefix + "link/escaped", text: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := hostileZip(t, members...)
			h1, err := dirhash.HashZip(file, dirhash.Hash1)
			if err != nil {
				h1 = "h1:unknown"
			}
			top := t.TempDir()
			dir := filepath.Join(top, "work", "module")
			err = unpackModule(dir, LockedModule{Folder: "y", Module: "x.test/y", H1: h1}, file)
			if err == nil {
				t.Error("it was unpacked")
			}
			err = filepath.Walk(top, func(p string, fi os.FileInfo, err error) error {
				if err != nil {
					return err
				}
				if !fi.IsDir() && !strings.HasPrefix(p, dir+"/") {
					t.Errorf("it wrote %s", p)
				}
				if !fi.IsDir() && !fi.Mode().IsRegular() {
					t.Errorf("it made %s, which is %v", p, fi.Mode())
				}
				if fi.Size() > 1<<20 {
					t.Errorf("it wrote %d bytes", fi.Size())
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat("/escaped"); err == nil {
				t.Error("it wrote /escaped")
			}
		})
	}
	file := hostileZip(t, good)
	if err := unpackModule(filepath.Join(t.TempDir(), "m"), LockedModule{Folder: "y", Module: "x.test/y", H1: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, file); err == nil || !strings.Contains(err.Error(), "the lock says") {
		t.Errorf("another hash than that of the lock gives %v", err)
	}
}
