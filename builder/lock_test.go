package builder

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const digestOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func sampleLock() *Lock {
	return &Lock{
		Recipe:   digestOfNothing,
		Go:       "go1.26.8",
		Packages: []LockedPackage{{"systemd-boot-efi", "252.39-1~deb12u2", "pool/main/s/systemd/systemd-boot-efi_252.39-1~deb12u2_amd64.deb", digestOfNothing, 113136}},
		Modules:  []LockedModule{{"../..", "example.org/server/v2", "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", digestOfNothing, 100}},
		Files:    []LockedFile{{"etc/b.conf", digestOfNothing, 0}, {"etc/a.conf", digestOfNothing, 0}},
	}
}

func sampleLockText(t testing.TB) string {
	t.Helper()
	b, err := sampleLock().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLockRoundTrip(t *testing.T) {
	text := sampleLockText(t)
	l, err := ParseLock("image.lock", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if l.Files[0].Path != "etc/a.conf" {
		t.Errorf("files are not sorted: %v", l.Files)
	}
	again, err := l.Marshal()
	if err != nil || string(again) != text {
		t.Errorf("got %s, %v, want %s", again, err, text)
	}
	want := []Input{
		{DebianPackage, "pool/main/s/systemd/systemd-boot-efi_252.39-1~deb12u2_amd64.deb", digestOfNothing, 113136},
		{GoModule, "../..", digestOfNothing, 100},
		{LocalFile, "etc/a.conf", digestOfNothing, 0},
		{LocalFile, "etc/b.conf", digestOfNothing, 0},
	}
	if got := l.Inputs(); !reflect.DeepEqual(got, want) {
		t.Errorf("inputs are %v, want %v", got, want)
	}
	if got := l.Local(); !reflect.DeepEqual(got, want[1:]) {
		t.Errorf("local inputs are %v, want %v", got, want[1:])
	}
}

func TestParseLockRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		line     int
		want     string
	}{
		"no JSON":                {"{\n", "format: x\n", 1, "make it anew"},
		"text behind":            {"]\n}\n", "]\n}\n{}\n", 36, ""},
		"another format":         {"image-lock/v1", "image-lock/v2", 2, "unknown"},
		"an unknown member":      {`"go":`, `"golang": "x", "go":`, 4, `/golang`},
		"another case":           {`"go":`, `"GO":`, 4, `/GO`},
		"a repeated member":      {`"go":`, `"go": "go1.26.8", "go":`, 4, `duplicate`},
		"a short digest":         {`"recipe": "e3b0`, `"recipe": "b0`, 3, "64 lower-case"},
		"an upper-case digest":   {`"recipe": "e3b0`, `"recipe": "E3B0`, 3, "64 lower-case"},
		"no Go version":          {`"go1.26.8"`, `""`, 4, "Go version"},
		"a development Go":       {"go1.26.8", "devel go1.27", 4, "Go version"},
		"a size as text":         {"113136", `"113136"`, 11, "/packages/0/size"},
		"a size with a fraction": {"113136", "113136.5", 11, "/packages/0/size"},
		"a negative size":        {"113136", "-1", 7, "size -1"},
		"a huge size":            {"113136", "9007199254740991", 7, "size"},
		"a path outside":         {`"pool/main`, `"../main`, 7, "pool/"},
		"a path with dots":       {`"pool/main`, `"pool/../main`, 7, "pool/"},
		"a path with a query":    {`_amd64.deb"`, `_amd64.deb?x.deb"`, 7, "pool/"},
		"a bad package":          {`"systemd-boot-efi",`, `"Systemd",`, 7, "Debian package"},
		"a bad version":          {`"252.39-1~deb12u2"`, `"252 39"`, 7, "version"},
		"a bad module":           {"example.org/server/v2", "server", 16, "Go module"},
		"a bad hash":             {"h1:47DE", "h2:47DE", 16, "go.sum"},
		"an absolute folder":     {`"../.."`, `"/src"`, 16, "absolute"},
		"a file above":           {`"etc/a.conf"`, `"../a.conf"`, 25, "does not stay"},
		"a file twice":           {`"etc/a.conf"`, `"etc/b.conf"`, 25, "twice"},
		"a number for a list":    {`"packages": [`, `"packages": 1, "modules": [`, 5, ""},
	} {
		t.Run(name, func(t *testing.T) {
			good := sampleLockText(t)
			if !strings.Contains(good, c.old) {
				t.Fatalf("the good lock has no %q:\n%s", c.old, good)
			}
			_, err := ParseLock("image.lock", []byte(strings.Replace(good, c.old, c.new, 1)))
			var f *FormatError
			if !errors.As(err, &f) {
				t.Fatalf("got %v, want a *FormatError", err)
			}
			if f.File != "image.lock" || f.Line != c.line || !strings.Contains(f.Detail, c.want) || strings.Contains(f.Error(), "\n") {
				t.Errorf("got %q, want line %d and %q", f, c.line, c.want)
			}
		})
	}
	if _, err := ParseLock("image.lock", make([]byte, maxLockBytes+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a lock that is too large gives %v", err)
	}
}

func TestMatchRecipe(t *testing.T) {
	r, err := ParseRecipe("image.yaml", []byte(tinyRecipe(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.Stub = "systemd-*"
	good := func() *Lock {
		return &Lock{
			Recipe:   r.SHA256(),
			Packages: []LockedPackage{{Name: "systemd-boot-efi"}},
			Modules:  []LockedModule{{Folder: "program"}},
			Files:    []LockedFile{{Path: "tiny.conf"}, {Path: "kernel.txt"}},
		}
	}
	if err := good().matchRecipe(r); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Lock)
		want   string
	}{
		"another recipe":    {func(l *Lock) { l.Recipe = digestOfNothing }, "made for a recipe"},
		"a module less":     {func(l *Lock) { l.Modules = nil }, "modules"},
		"a module more":     {func(l *Lock) { l.Modules = append(l.Modules, LockedModule{Folder: "x"}) }, "modules"},
		"a file less":       {func(l *Lock) { l.Files = l.Files[1:] }, "files"},
		"a file more":       {func(l *Lock) { l.Files = append(l.Files, LockedFile{Path: "x"}) }, "files"},
		"a package less":    {func(l *Lock) { l.Packages = nil }, "no Debian package"},
		"a package more":    {func(l *Lock) { l.Packages = append(l.Packages, LockedPackage{Name: "x"}) }, "does not use"},
		"a package instead": {func(l *Lock) { l.Packages[0].Name = "linux" }, "no Debian package"},
	} {
		l := good()
		c.change(l)
		if err := l.matchRecipe(r); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "vitrine lock") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestMatchPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"linux", "linux", true},
		{"linux", "linux-image", false},
		{"linux-image-6.1.0-*-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", true},
		{"linux-image-6.1.0-*-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64-unsigned", false},
		{"linux-image-6.1.0-*-cloud-amd64", "linux-image-6.1.0--cloud-amd64", true},
		{"linux-image-6.1.0-*-cloud-amd64", "linux-image-6.1.0-cloud-amd64", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "acb", false},
		{"*", "anything", true},
		{"ab*ba", "aba", false},
	} {
		if got := matchPattern(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(sampleLockText(f)))
	f.Add([]byte("{}"))
	f.Add([]byte(`{"format":"` + LockFormat + `","recipe":1}`))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLock("image.lock", b)
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: the error is not one line of a *FormatError: %v", b, err)
			}
			return
		}
		text, err := l.Marshal()
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", b, err)
		}
		if _, err := ParseLock("image.lock", text); err != nil {
			t.Fatalf("%q was written and cannot be read: %v", text, err)
		}
	})
}
