package builder

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCompilations(t *testing.T) {
	set := map[string]string{"main.x": "y"}
	got := compilations([]Program{
		{"m", "./cmd/a", nil},
		{"m", "./cmd/b", nil},
		{"m", "./cmd/a", nil},    // once is enough
		{"m", "./other/b", nil},  // its program would be called b, too
		{"m", "./cmd/a", set},    // other bits
		{"n", "./cmd/a", nil},    // another module
		{"m", ".", nil},          // called as the module is
		{"m", "./cmd/c/v2", nil}, // called c
		{"m", "./cmd/c", nil},    // as is this
		{"m", "./cmd/d", map[string]string{"main.x": "y"}},
	})
	want := []compilation{
		{"m", nil, []string{"./cmd/a", "./cmd/b", "./cmd/c"}},
		{"m", nil, []string{"./other/b"}},
		{"m", set, []string{"./cmd/a", "./cmd/d"}},
		{"n", nil, []string{"./cmd/a"}},
		{"m", nil, []string{"."}},
		{"m", nil, []string{"./cmd/c/v2"}},
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestLinkerFlags(t *testing.T) {
	at := time.Date(2026, 11, 25, 3, 0, 0, 0, time.FixedZone("", 3600))
	got := linkerFlags(map[string]string{"main.version": "${VERSION}", "main.built": "at ${BUILD_TIME}"}, "1.0", at)
	if want := "-s -w -buildid= -linkmode=internal -X 'main.built=at 2026-11-25T02:00:00Z' -X 'main.version=1.0'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestToolchainEnvironment(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=secret")
	t.Setenv("SECRET", "x")
	home := t.TempDir()
	tools, err := Toolchain{Cache: sharedCache, Environment: []string{"HTTPS_PROXY=http://proxy.test:1"}}.prepare(home)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tools.run(t.Context(), home, home, "env", "GOFLAGS", "CGO_ENABLED", "GOTOOLCHAIN", "GOPROXY", "GOSUMDB", "GOOS", "GOARCH", "GOWORK", "GOAMD64")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), "-mod=readonly -modcacherw\n0\nlocal\noff\noff\nlinux\namd64\noff\nv1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, e := range tools.environment(home) {
		if strings.Contains(e, "SECRET") || strings.Contains(e, "secret") {
			t.Errorf("a variable of the caller is handed on: %s", e)
		}
	}
	for _, bad := range []string{"GOFLAGS=-toolexec=sh", "PATH=/tmp", "GODEBUG=x=1"} {
		if _, err := (Toolchain{Environment: []string{bad}}).prepare(home); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestAnotherGoIsRefused(t *testing.T) {
	in, _ := lockTiny(t, "testdata/tiny")
	l, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	here := l.Go
	l.Go = "go1.2.3"
	if in.Lock, err = l.Marshal(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	_, err = Build(t.Context(), in, Options{OutDir: out, Toolchain: tinyTools()})
	if !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), "go1.2.3") || !strings.Contains(err.Error(), here) {
		t.Errorf("got %v, want ErrToolchain that names both versions", err)
	}
}

func TestNoProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recipe")
	copyTree(t, "testdata/tiny", dir)
	replaceInFile(t, filepath.Join(dir, "image.yaml"), "package: ./server", "package: ./embedded")
	in, _ := lockTiny(t, dir)
	_, err := Build(t.Context(), in, Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tinyTools()})
	if err == nil || !strings.Contains(err.Error(), "name a package main") {
		t.Errorf("a package that is no program gives %v", err)
	}
}

func replaceInFile(t *testing.T, name, from, to string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), from) {
		t.Fatalf("%s has no %q", name, from)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
