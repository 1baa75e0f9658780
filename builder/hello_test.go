package builder

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// lockRecipe locks one of the shipped recipes.
func lockRecipe(t *testing.T, name string, m *Mirrors, cache Cache) Inputs {
	t.Helper()
	dir := filepath.Join(recipesDir, name)
	recipe, err := os.ReadFile(filepath.Join(dir, "image.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := LockRecipe(t.Context(), dir, recipe, LockOptions{Mirrors: m, Toolchain: moduleTools(t), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	in := Inputs{Recipe: recipe, Lock: lock, Fetchers: []Fetcher{cache}}
	if m != nil {
		in.Fetchers = append(in.Fetchers, m)
	}
	return in
}

// TestHello builds the shipped image twice, kernel and all, and predicts what it
// measures.
func TestHello(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a node twice")
	}
	m := realMirrors(t)
	cache := Cache{t.TempDir()}
	in := lockRecipe(t, "hello-inference", m, cache)
	r, err := Reproduce(t.Context(), in, Options{OutDir: t.TempDir(), Toolchain: moduleTools(t), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Reproduced() || !reflect.DeepEqual(r.First.Artefacts, r.Second.Artefacts) {
		t.Fatalf("two builds differ: %v", r.Differences)
	}
	var names []string
	for _, a := range r.First.Artefacts {
		names = append(names, a.Name)
	}
	if want := []string{"cmdline", "disk.img", "initrd.cpio", "manifest.json", "root.erofs", "root.verity", "uki.efi", "vmlinuz"}; !slices.Equal(names, want) {
		t.Errorf("artefacts %q, want %q", names, want)
	}
	measurements, err := r.First.Measurements(t.Context(), in, cache)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReleaseStatement(r.First, in, Version, measurements)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Predicate.(*statement.Release).Measurements {
		for _, name := range statement.MandatoryRegisters(m.Platform) {
			// The firmware in memory is the one thing that files do not decide.
			if open := m.Registers[name].Any != ""; open != (name == "pcr0") {
				t.Errorf("%s: register %s is %+v", m.Platform, name, m.Registers[name])
			}
		}
	}
	modules := 0
	for _, f := range r.First.Manifest.Files {
		if f.Artefact == "initrd.cpio" && strings.HasSuffix(f.Path, ".ko") {
			modules++
		}
	}
	if modules != 15 {
		t.Errorf("the initrd holds %d kernel modules, want the recipe's 15", modules)
	}
}

// TestUnreproducible wants the shipped recipe that embeds the time caught by the
// same check, and the one without a kernel not.
func TestUnreproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a node")
	}
	for name, want := range map[string][]string{
		"unreproducible":            {"root.erofs: usr/bin/inference-server"},
		"hello-inference-no-kernel": nil,
	} {
		cache := Cache{t.TempDir()}
		in := lockRecipe(t, name, nil, cache)
		r, err := Reproduce(t.Context(), in, Options{OutDir: t.TempDir(), Toolchain: moduleTools(t), Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		if got := Causes(r.Differences); !slices.Equal(got, want) {
			t.Errorf("%s: causes %q, want %q", name, got, want)
		}
	}
}
