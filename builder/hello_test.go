package builder

import (
	"os"
	"path/filepath"
	"testing"
	"time"
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
	return Inputs{Recipe: recipe, Lock: lock, Fetchers: []Fetcher{cache, m}}
}

func TestBuildHello(t *testing.T) {
	m := realMirrors(t)
	in := lockRecipe(t, "hello-inference", m, Cache{t.TempDir()})
	t.Logf("%s", in.Lock)
	began := time.Now()
	out, err := Build(t.Context(), in, Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: moduleTools(t), Progress: func(stage string, done, total int64) {
		t.Logf("%v %s %d/%d", time.Since(began).Round(time.Millisecond), stage, done, total)
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range out.Artefacts {
		t.Logf("%s %d", a.Name, a.Size)
	}
}
