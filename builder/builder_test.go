package builder

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sharedCache is one GOCACHE for the tests of this package: compiling the
// standard library again for each would take most of their time.
var sharedCache string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vitrine-builder-test-*")
	if err != nil {
		panic(err)
	}
	sharedCache = filepath.Join(dir, "gocache")
	code := m.Run()
	removeAll(dir)
	os.Exit(code)
}

func tinyTools() Toolchain { return Toolchain{Cache: sharedCache} }

// moduleTools is for recipes whose modules have dependencies: it takes them from
// the module cache of whoever runs the test.
func moduleTools(t *testing.T) Toolchain {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	modCache, proxy, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return Toolchain{Cache: sharedCache, ModCache: modCache, Proxy: proxy}
}

// lockTiny locks the recipe in dir. The build gets its inputs from the cache,
// as a stranger gets them from a log, and not from dir.
func lockTiny(t *testing.T, dir string) (Inputs, Cache) {
	t.Helper()
	recipe, err := os.ReadFile(filepath.Join(dir, "image.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cache := Cache{t.TempDir()}
	l, err := LockRecipe(t.Context(), dir, recipe, LockOptions{Toolchain: tinyTools(), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Inputs{Recipe: recipe, Lock: lock, Fetchers: []Fetcher{cache}}, cache
}
