package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LockOptions says with what a recipe is locked.
type LockOptions struct {
	Mirrors   *Mirrors // see AptMirrors; needed only for a recipe with Debian packages
	Keyring   string   // of the Debian archive; "" for DebianKeyring
	Toolchain Toolchain
	// Cache takes the packed modules and local files, for Build and for
	// publishing (Lock.Local, Cache.Path).
	Cache    Cache
	Now      func() time.Time // for Valid-Until of Debian's indices
	Progress func(stage string, done, total int64)
}

// LockRecipe finds every input of a recipe as it is now. recipe are the bytes
// of image.yaml in the folder dir. A network or a mirror that cannot be reached
// is an error that wraps ErrUnavailable.
func LockRecipe(ctx context.Context, dir string, recipe []byte, o LockOptions) (*Lock, error) {
	r, err := ParseRecipe(filepath.Join(dir, "image.yaml"), recipe)
	if err != nil {
		return nil, err
	}
	if o.Cache.Dir == "" {
		return nil, errors.New("locking: no folder for the packed modules and files was named")
	}
	home, err := os.MkdirTemp("", "vitrine-lock-*")
	if err != nil {
		return nil, fmt.Errorf("locking: making a work folder: %w", err)
	}
	defer removeAll(home)
	t, err := o.Toolchain.prepare(home)
	if err != nil {
		return nil, err
	}
	progress := o.Progress
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	l := &Lock{Format: LockFormat, Recipe: r.sha256, Packages: []LockedPackage{}, Modules: []LockedModule{}, Files: []LockedFile{}}
	if l.Go, err = t.version(ctx, home); err != nil {
		return nil, err
	}
	if err := checkGoVersion(l.Go); err != nil {
		return nil, fmt.Errorf("locking: %w: a rebuilder needs a released version: install one from https://go.dev/dl/", err)
	}
	folders, packages := r.modules()
	total := int64(len(folders) + len(r.files()) + 1)
	for i, folder := range folders {
		progress("lock", int64(i), total)
		zipped, modulePath, h1, err := packModule(ctx, t, home, filepath.Join(dir, filepath.FromSlash(folder)), packages[folder])
		if err != nil {
			return nil, err
		}
		digest, err := o.Cache.put(zipped)
		if err != nil {
			return nil, err
		}
		l.Modules = append(l.Modules, LockedModule{folder, modulePath, h1, digest, int64(len(zipped))})
	}
	for _, name := range r.files() {
		b, err := readLocal(dir, name)
		if err != nil {
			return nil, err
		}
		digest, err := o.Cache.put(b)
		if err != nil {
			return nil, err
		}
		l.Files = append(l.Files, LockedFile{name, digest, int64(len(b))})
	}
	if names := r.packages(); len(names) > 0 {
		progress("lock", total-1, total)
		if o.Mirrors == nil {
			return nil, errors.New("locking: the recipe takes Debian packages, and no mirror is known: name one")
		}
		keyring := o.Keyring
		if keyring == "" {
			keyring = DebianKeyring
		}
		now := time.Now
		if o.Now != nil {
			now = o.Now
		}
		if l.Packages, err = o.Mirrors.resolve(ctx, r.Debian, keyring, now(), names); err != nil {
			return nil, err
		}
	}
	progress("lock", total, total)
	if _, err := l.Marshal(); err != nil {
		return nil, err
	}
	return l, nil
}

// readLocal reads a file beside the recipe. os.Root keeps symbolic links from
// leading out of the folder.
func readLocal(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the recipe's folder: %w", err)
	}
	defer root.Close()
	f, err := root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the recipe names the file %s, and there is none in %s: put it there, or mend the recipe", name, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a file of the recipe: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("reading a file of the recipe: %s is no regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxLocalBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading a file of the recipe: %w", err)
	}
	if len(b) > MaxLocalBytes {
		return nil, fmt.Errorf("reading a file of the recipe: %s has more than %d bytes, which is more than a log stores", name, MaxLocalBytes)
	}
	return b, nil
}

// RecipeFolder is a Fetcher of the local inputs as they lie in dir now: it packs
// a module again, which gives other bytes once a file of it has changed.
func RecipeFolder(dir string, recipe []byte, t Toolchain) (Fetcher, error) {
	r, err := ParseRecipe(filepath.Join(dir, "image.yaml"), recipe)
	if err != nil {
		return nil, err
	}
	_, packages := r.modules()
	return FetchFunc(func(ctx context.Context, in Input) (io.ReadCloser, error) {
		var b []byte
		var err error
		switch in.Kind {
		case LocalFile:
			if checkLocalPath(in.Name) != nil {
				return nil, ErrUnavailable
			}
			b, err = readLocal(dir, in.Name)
		case GoModule:
			if packages[in.Name] == nil {
				return nil, ErrUnavailable
			}
			b, err = packAgain(ctx, t, filepath.Join(dir, filepath.FromSlash(in.Name)), packages[in.Name])
		default:
			return nil, ErrUnavailable
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrUnavailable, err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != in.SHA256 {
			return nil, fmt.Errorf("%w: the %s %s in %s has changed since the lock was made: run vitrine lock", ErrChanged, in.Kind, in.Name, dir)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}), nil
}

func packAgain(ctx context.Context, t Toolchain, folder string, packages []string) ([]byte, error) {
	home, err := os.MkdirTemp("", "vitrine-pack-*")
	if err != nil {
		return nil, err
	}
	defer removeAll(home)
	if t, err = t.prepare(home); err != nil {
		return nil, err
	}
	b, _, _, err := packModule(ctx, t, home, folder, packages)
	return b, err
}
