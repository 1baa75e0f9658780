package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// What a stranger's recipe may try on the machine that builds it again.

// strangeFile is a zip.File in memory.
type strangeFile struct{ name, text string }

func (f strangeFile) Path() string                { return f.name }
func (f strangeFile) Lstat() (os.FileInfo, error) { return f, nil }
func (f strangeFile) Open() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.text)), nil
}
func (f strangeFile) Name() string       { return filepath.Base(f.name) }
func (f strangeFile) Size() int64        { return int64(len(f.text)) }
func (f strangeFile) Mode() os.FileMode  { return 0o644 }
func (f strangeFile) ModTime() time.Time { return time.Time{} }
func (f strangeFile) IsDir() bool        { return false }
func (f strangeFile) Sys() any           { return nil }

// strange locks the tiny recipe and puts another module in its place, which
// nothing of ours has packed. Files replace those of a module that builds.
func strange(t *testing.T, files map[string]string) Inputs {
	t.Helper()
	in, cache := lockTiny(t, "testdata/tiny")
	l, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{
		"go.mod":          "module vitrine.test/program\n\ngo 1.26.0\n",
		"server/main.go":  "package main\n\nfunc main() {}\n",
		"initial/main.go": "package main\n\nfunc main() {}\n",
	}
	var list []zip.File
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		list = append(list, strangeFile{name, text})
	}
	var packed bytes.Buffer
	if err := zip.Create(&packed, module.Version{Path: "vitrine.test/program", Version: "v0.0.0"}, list); err != nil {
		t.Fatal(err)
	}
	m := &l.Modules[0]
	if m.SHA256, err = cache.put(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	if m.H1, err = hashZip(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	m.Size = int64(packed.Len())
	if in.Lock, err = l.Marshal(); err != nil {
		t.Fatal(err)
	}
	return in
}

func buildStrange(t *testing.T, tools Toolchain, files map[string]string) (*Output, error) {
	t.Helper()
	return Build(t.Context(), strange(t, files), Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tools})
}

// TestNothingOfThisMachineIsCompiled has a module take a package from a folder
// of the machine that builds.
func TestNothingOfThisMachineIsCompiled(t *testing.T) {
	private := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module private.test/p\n\ngo 1.26.0\n",
		"p.go":   "package p\n\nconst Secret = \"sesame\"\n",
	} {
		if err := os.WriteFile(filepath.Join(private, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	work, err := filepath.Rel("/", private)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{private, strings.Repeat("../", 32) + work} {
		_, err := buildStrange(t, tinyTools(), map[string]string{
			"go.mod":         "module vitrine.test/program\n\ngo 1.26.0\n\nrequire private.test/p v0.0.0\n\nreplace private.test/p => " + folder + "\n",
			"server/main.go": "package main\n\nimport \"private.test/p\"\n\nfunc main() { println(p.Secret) }\n",
		})
		if err == nil || !strings.Contains(err.Error(), "replaces private.test/p by the folder") {
			t.Errorf("a package in %s: %v", folder, err)
		}
	}
}

// TestNoFileOfThisMachineIsIncluded has assembly include a file of the machine
// that builds. Each word that may stand in it is a macro for another
// instruction, so that the program's digest tells which does.
func TestNoFileOfThisMachineIsIncluded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hostname")
	if err := os.WriteFile(name, []byte("monitor7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	quoted := `"` + name + `"`
	const (
		words = "#define monitor6 MOVQ $6, AX\n#define monitor7 MOVQ $7, AX\n"
		begin = "TEXT ·f(SB),4,$0-8\n"
		end   = "\nMOVQ AX, ret+0(FP)\nRET\n"
	)
	for what, c := range map[string]struct {
		files map[string]string
		good  bool
	}{
		"by its path":           {map[string]string{"server/f_amd64.s": words + begin + "#include " + quoted + end}, false},
		"by an escaped path":    {map[string]string{"server/f_amd64.s": words + begin + "#include " + strings.ReplaceAll(quoted, "/", `\x2f`) + end}, false},
		"by a macro":            {map[string]string{"server/f_amd64.s": words + "#define H # include\n" + begin + "H " + quoted + end}, false},
		"by a macro's argument": {map[string]string{"server/f_amd64.s": words + "#define H(x) # x\n" + begin + "H(include) " + quoted + end}, false},
		"after a comment":       {map[string]string{"server/f_amd64.s": words + begin + "# /* x\n */ include /* y */ " + quoted + end}, false},
		"by a header":           {map[string]string{"server/f_amd64.s": "#include \"f.h\"\n" + begin + "GET" + end, "server/f.h": words + "#define GET #include " + quoted + "\n"}, false},
		"by any other file":     {map[string]string{"server/f_amd64.s": words + begin + "#include \"f.txt\"" + end, "server/f.txt": "#include " + quoted + "\n"}, false},
		"from its own package":  {map[string]string{"server/f_amd64.s": "// include\n#include \"textflag.h\"\n#include \"f.h\"\n" + begin + "monitor7" + end, "server/f.h": words}, true},
	} {
		t.Run(what, func(t *testing.T) {
			c.files["server/main.go"] = "package main\n\nfunc f() int\n\nfunc main() { println(f()) }\n"
			_, err := buildStrange(t, tinyTools(), c.files)
			if c.good && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !c.good && (err == nil || !strings.Contains(err.Error(), "vitrine.test/program/server") || strings.Contains(err.Error(), "monitor")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzScanIncludes(f *testing.F) {
	f.Add([]byte("#include \"textflag.h\"\nTEXT ·f(SB),4,$0-8\nRET\n"))
	f.Add([]byte("#define H(x) # x\nH(include) \"/etc/hostname\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := scanIncludes(b)
		if err != nil {
			return
		}
		for _, n := range names {
			if n != filepath.Base(n) {
				t.Fatalf("%q includes %q", b, n)
			}
		}
	})
}

// TestNoCompilerOfThisMachineRuns makes go want to link with a C compiler, which
// lies beside it where Go comes from Debian's package.
func TestNoCompilerOfThisMachineRuns(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc, to make an object file")
	}
	dir := t.TempDir()
	source, object := filepath.Join(dir, "f.c"), filepath.Join(dir, "f.o")
	if err := os.WriteFile(source, []byte("void vitrine_f(void) {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-c", "-o", object, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(goTool, filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(dir, "ran")
	for _, name := range []string{"gcc", "clang", "cc", "g++", "ld"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho \"$0 $@\" >>"+ran+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tools := tinyTools()
	tools.Go = filepath.Join(dir, "go")
	_, err = buildStrange(t, tools, map[string]string{
		"server/main.go":            "package main\n\nimport _ \"runtime/cgo\"\n\nfunc main() {}\n",
		"server/f_linux_amd64.syso": string(mustRead(t, object)),
	})
	if lines, readErr := os.ReadFile(ran); readErr == nil {
		t.Errorf("programs of this machine ran: %s", lines)
	}
	var compile *CompileError
	if !errors.As(err, &compile) {
		t.Errorf("got %v", err)
	}
}

// TestNoHostIsAsked has a module require another from a host of its choice.
func TestNoHostIsAsked(t *testing.T) {
	asked := make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		http.Error(w, "", http.StatusBadGateway)
	}))
	defer server.Close()
	tools := tinyTools()
	// All that go asks for passes through here.
	tools.Environment = []string{"HTTP_PROXY=" + server.URL, "HTTPS_PROXY=" + server.URL}
	tools.Proxy = "direct"
	sum := " h1:" + strings.Repeat("A", 43) + "=\n"
	_, err := buildStrange(t, tools, map[string]string{
		"go.mod":         "module vitrine.test/program\n\ngo 1.26.0\n\nrequire intern.test/p v0.0.0\n",
		"go.sum":         "intern.test/p v0.0.0" + sum + "intern.test/p v0.0.0/go.mod" + sum,
		"server/main.go": "package main\n\nimport _ \"intern.test/p\"\n\nfunc main() {}\n",
	})
	if err == nil || !strings.Contains(err.Error(), "GOPROXY=off") {
		t.Errorf("got %v", err)
	}
	select {
	case a := <-asked:
		t.Errorf("go asked %s", a)
	default:
	}
	for proxies, want := range map[string]string{
		"":                                  "off",
		"direct":                            "off",
		" direct|direct,":                   "off",
		"off":                               "off",
		"https://a.test,direct":             "https://a.test",
		"https://a.test|https://b.test":     "https://a.test|https://b.test",
		"direct,https://a.test | direct,,x": "https://a.test|x",
		"file:///srv/proxy,off":             "file:///srv/proxy,off",
	} {
		if got := withoutDirect(proxies); got != want {
			t.Errorf("%q becomes %q, want %q", proxies, got, want)
		}
	}
}

// debOf is a Debian package without files.
func debOf(t *testing.T, control string) []byte {
	t.Helper()
	pack := func(name, text string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if name != "" {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	b := []byte("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", pack("./control", control)}, {"data.tar", pack("", "")}} {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", m.name, 0, 0, 0, "100644", len(m.body), m.body)
	}
	return b
}

// TestPackagesAreWhatTheLockCallsThem locks an old kernel under the name and
// version of a new one.
func TestPackagesAreWhatTheLockCallsThem(t *testing.T) {
	for control, want := range map[string]string{
		"Package: linux-image-x\nVersion: 6.1.192-2\n":  "",
		"Package: linux-image-x\nVersion: 6.1.27-1\n":   `of version "6.1.27-1", and the lock calls it`,
		"Package: linux-image-rt\nVersion: 6.1.192-2\n": `is the package "linux-image-rt"`,
		"Version: 6.1.192-2\n":                          `is the package ""`,
		"\n":                                            `is the package ""`,
	} {
		deb := debOf(t, control)
		cache := Cache{t.TempDir()}
		digest, err := cache.put(deb)
		if err != nil {
			t.Fatal(err)
		}
		b := &build{
			lock:  &Lock{Packages: []LockedPackage{{"linux-image-x", "6.1.192-2", "pool/main/l/x.deb", digest, int64(len(deb))}}},
			files: map[string]string{digest: cache.Path(digest)},
		}
		err = b.checkPackages()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", control, err, want)
		}
	}
}

// TestNoDiskIsFilled names, in few lines, more than a disk may hold.
func TestNoDiskIsFilled(t *testing.T) {
	in, _ := lockTiny(t, "testdata/tiny")
	recipe, err := ParseRecipe("image.yaml", in.Recipe)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	const each = maxPackageBytes

	for range maxInputBytes/each + 1 {
		lock.Packages = append(lock.Packages, LockedPackage{Size: each})
	}
	b := &build{recipe: recipe, lock: lock}
	if err := b.getInputs(t.Context()); err == nil || !strings.Contains(err.Error(), "inputs of") {
		t.Errorf("inputs: %v", err)
	}

	// A file of a gigabyte, in which nothing is written.
	big := filepath.Join(t.TempDir(), "big")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	b = &build{recipe: &Recipe{}, lock: &Lock{Files: []LockedFile{{Path: "big", SHA256: "x"}}}, files: map[string]string{"x": big}}
	for i := range maxRootBytes>>30 + 1 {
		if _, err := b.entries(nil); err != nil {
			t.Fatalf("%d files: %v", i, err)
		}
		b.recipe.Root = append(b.recipe.Root, Step{Kind: KindFile, From: "big", To: fmt.Sprintf("/big%d", i)})
	}
	if _, err := b.entries(nil); err == nil || !strings.Contains(err.Error(), "at /big16") {
		t.Errorf("files: %v", err)
	}

	var packed bytes.Buffer
	if err := zip.Create(&packed, module.Version{Path: "x.test/y", Version: "v0.0.0"}, []zip.File{strangeFile{"go.mod", "module x.test/y\n"}, strangeFile{"x", strings.Repeat("x", 1<<20)}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "module.zip")
	if err := os.WriteFile(file, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 1<<20 + int64(len("module x.test/y\n"))
	if got, err := unpackedSize(file, size); err != nil || got != size {
		t.Errorf("a module expands to %d bytes, %v, want %d", got, err, size)
	}
	if _, err := unpackedSize(file, size-1); err == nil {
		t.Error("a module may expand to more than was allowed")
	}
}
