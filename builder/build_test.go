package builder

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReproduceTiny(t *testing.T) {
	in, _ := lockTiny(t, "testdata/tiny")
	var stages []string
	r, err := Reproduce(t.Context(), in, Options{OutDir: t.TempDir(), Toolchain: tinyTools(), Progress: func(stage string, done, total int64) {
		if done < 0 || done > total {
			t.Errorf("stage %s is at %d of %d", stage, done, total)
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Reproduced() {
		t.Fatalf("two builds differ: %v", r.Differences)
	}
	if !reflect.DeepEqual(r.First.Artefacts, r.Second.Artefacts) {
		t.Errorf("the artefacts, manifest included, are %v and %v", r.First.Artefacts, r.Second.Artefacts)
	}
	slices.Sort(stages)
	if want := []string{"assemble", "compile", "describe", "inputs", "kernel"}; !slices.Equal(stages, want) {
		t.Errorf("stages %q, want %q", stages, want)
	}
	want := map[string]File{
		"root.erofs/usr/bin/server": {Mode: "-rwxr-xr-x"},
		"root.erofs/etc/tiny.conf":  {Mode: "-rw-------", UID: 7, GID: 8, Size: 19},
		"root.erofs/etc/motd":       {Mode: "-rw-r--r--", Size: 6},
		"root.erofs/var/lib/tiny":   {Mode: "dtrwxrwxrwx"},
		"root.erofs/bin":            {Mode: "Lrwxrwxrwx", Target: "usr/bin"},
		"initrd.cpio/init":          {Mode: "-rwxr-xr-x"},
	}
	for _, f := range r.First.Manifest.Files {
		w, ok := want[f.Artefact+"/"+f.Path]
		if !ok {
			continue
		}
		if f.Mode != w.Mode || f.UID != w.UID || f.GID != w.GID || f.Target != w.Target || w.Size != 0 && f.Size != w.Size {
			t.Errorf("got %+v, want %+v", f, w)
		}
		delete(want, f.Artefact+"/"+f.Path)
	}
	if len(want) != 0 {
		t.Errorf("the manifest lacks %v", want)
	}
	again, err := OpenOutput(r.First.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, r.First) {
		t.Errorf("reading the folder gives %+v, want %+v", again, r.First)
	}
	if err := os.WriteFile(again.Path("vmlinuz"), []byte("another kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenOutput(r.First.Dir); err == nil || !strings.Contains(err.Error(), "vmlinuz") {
		t.Errorf("a changed artefact gives %v", err)
	}
}

// TestReproduceCatches builds what embeds the time, and wants the one file named
// that is to blame.
func TestReproduceCatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recipe")
	copyTree(t, "testdata/tiny", dir)
	replaceInFile(t, filepath.Join(dir, "image.yaml"), `"${VERSION}"`, `"${VERSION}", main.built: "${BUILD_TIME}"`)
	in, _ := lockTiny(t, dir)
	r, err := Reproduce(t.Context(), in, Options{OutDir: t.TempDir(), Toolchain: tinyTools()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Reproduced() {
		t.Fatal("a build that embeds the time was not caught")
	}
	if got, want := Causes(r.Differences), []string{"root.erofs: usr/bin/server"}; !slices.Equal(got, want) {
		t.Errorf("causes %q, want %q", got, want)
	}
	var artefacts []string
	for _, d := range r.Differences {
		artefacts = append(artefacts, d.Artefact)
	}
	if want := []string{"root.erofs", "initrd.cpio", "root.verity"}; !slices.Equal(artefacts, want) {
		t.Errorf("artefacts %q, want %q", artefacts, want)
	}
}

func TestBuildLeavesNothing(t *testing.T) {
	good, cache := lockTiny(t, "testdata/tiny")
	l, err := ParseLock("image.lock", good.Lock)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stopped")
	for name, c := range map[string]struct {
		change func(*testing.T, *Inputs, *Options) context.Context
		want   func(error) bool
	}{
		"another recipe": {func(t *testing.T, in *Inputs, _ *Options) context.Context {
			in.Recipe = append(slices.Clone(in.Recipe), "# a comment\n"...)
			return t.Context()
		}, func(err error) bool {
			var f *FormatError
			return errors.As(err, &f) && f.File == "image.lock" && strings.Contains(err.Error(), "vitrine lock")
		}},
		"no input": {func(t *testing.T, in *Inputs, _ *Options) context.Context {
			in.Fetchers = nil
			return t.Context()
		}, func(err error) bool { return errors.Is(err, ErrUnavailable) }},
		"a tampered module": {func(t *testing.T, in *Inputs, _ *Options) context.Context {
			in.Fetchers = []Fetcher{tampering{cache, GoModule}}
			return t.Context()
		}, func(err error) bool {
			var input *InputError
			return errors.Is(err, ErrChanged) && errors.As(err, &input) && input.Input.Kind == GoModule
		}},
		"a tampered kernel": {func(t *testing.T, in *Inputs, _ *Options) context.Context {
			in.Fetchers = []Fetcher{tampering{cache, LocalFile}}
			return t.Context()
		}, func(err error) bool { return errors.Is(err, ErrChanged) }},
		"a module of another content": {func(t *testing.T, in *Inputs, _ *Options) context.Context {
			other := *l
			other.Modules = []LockedModule{l.Modules[0]}
			other.Modules[0].H1 = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
			var err error
			if in.Lock, err = other.Marshal(); err != nil {
				t.Fatal(err)
			}
			return t.Context()
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "the lock says") }},
		"stopped while compiling": {func(t *testing.T, _ *Inputs, o *Options) context.Context {
			ctx, cancel := context.WithCancelCause(t.Context())
			o.Progress = func(stage string, _, _ int64) {
				if stage == "compile" {
					cancel(stop)
				}
			}
			return ctx
		}, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"no such work folder": {func(t *testing.T, _ *Inputs, o *Options) context.Context {
			o.WorkDir = filepath.Join(t.TempDir(), "absent")
			return t.Context()
		}, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
	} {
		t.Run(name, func(t *testing.T) {
			in := good
			top, work := t.TempDir(), t.TempDir()
			o := Options{OutDir: filepath.Join(top, "out"), WorkDir: work, Toolchain: tinyTools()}
			ctx := c.change(t, &in, &o)
			if _, err := Build(ctx, in, o); err == nil || !c.want(err) {
				t.Errorf("got %v", err)
			}
			for _, dir := range []string{top, work} {
				if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
					t.Errorf("it left %v, %v", left, err)
				}
			}
		})
	}
}

// tampering flips a bit of every input of one kind.
type tampering struct {
	from Fetcher
	kind InputKind
}

func (f tampering) Fetch(ctx context.Context, in Input) (io.ReadCloser, error) {
	r, err := f.from.Fetch(ctx, in)
	if err != nil || in.Kind != f.kind {
		return r, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	b[len(b)/2] ^= 1
	return io.NopCloser(strings.NewReader(string(b))), nil
}

func TestBuildKeepsWhatIsThere(t *testing.T) {
	in, _ := lockTiny(t, "testdata/tiny")
	out := t.TempDir()
	mine := filepath.Join(out, "mine.txt")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), in, Options{OutDir: out, Toolchain: tinyTools()}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(mine); string(b) != "mine" {
		t.Errorf("the file there is now %q, %v", b, err)
	}
}

func TestRecipeFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recipe")
	copyTree(t, "testdata/tiny", dir)
	in, _ := lockTiny(t, dir)
	l, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := RecipeFolder(dir, in.Recipe, tinyTools())
	if err != nil {
		t.Fatal(err)
	}
	get := func(i Input) error {
		_, err := Cache{t.TempDir()}.Get(t.Context(), i, []Fetcher{folder})
		return err
	}
	for _, i := range l.Local() {
		if err := get(i); err != nil {
			t.Error(err)
		}
	}
	replaceInFile(t, filepath.Join(dir, "program/embedded/text.txt"), "embedded", "changed")
	replaceInFile(t, filepath.Join(dir, "tiny.conf"), "tiny", "huge")
	for _, i := range l.Local() {
		err := get(i)
		if changed := i.Name != "kernel.txt"; changed != errors.Is(err, ErrChanged) || changed && !strings.Contains(err.Error(), "vitrine lock") {
			t.Errorf("%s: got %v", i.Name, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "kernel.txt")); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "kernel.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := readLocal(dir, "kernel.txt"); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a link that leads out of the folder gives %v", err)
	}
	for _, i := range []Input{{Kind: LocalFile, Name: "../recipe/kernel.txt"}, {Kind: GoModule, Name: "../other"}, {Kind: DebianPackage, Name: "pool/x.deb"}} {
		if _, err := folder.Fetch(t.Context(), i); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v: got %v, want ErrUnavailable", i, err)
		}
	}
}

// TestBuildTimeIsTheOnlyClock holds that a recipe that does not ask for the time
// of the build does not show it.
func TestBuildTimeIsTheOnlyClock(t *testing.T) {
	in, _ := lockTiny(t, "testdata/tiny")
	var digests []string
	for _, year := range []int{1999, 2040} {
		out, err := Build(t.Context(), in, Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tinyTools(), Now: func() time.Time { return time.Date(year, 2, 3, 4, 5, 6, 7, time.UTC) }})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, out.Artefacts[slices.IndexFunc(out.Artefacts, func(a Artefact) bool { return a.Name == ManifestName })].SHA256)
	}
	if digests[0] != digests[1] {
		t.Error("the clock shows in the image")
	}
}
