package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/log/durable"
)

// Inputs is what determines an image: the bytes of a recipe and its lock.
// Fetchers are asked in order for what the lock names; it does not matter which
// of them answers.
type Inputs struct {
	Recipe, Lock []byte
	Fetchers     []Fetcher
}

// parse reads the recipe and its lock. The error is a *FormatError.
func (in Inputs) parse() (*Recipe, *Lock, error) {
	recipe, err := ParseRecipe("image.yaml", in.Recipe)
	if err != nil {
		return nil, nil, err
	}
	lock, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		return nil, nil, err
	}
	if err := lock.matchRecipe(recipe); err != nil {
		return nil, nil, &FormatError{File: "image.lock", Line: 1, Detail: err.Error()}
	}
	return recipe, lock, nil
}

// Options says where and how a build runs. Nothing of it may show in the output,
// except Now in a recipe that asks for ${BUILD_TIME}.
type Options struct {
	OutDir    string // must not exist yet, or be empty
	WorkDir   string // a folder made in it is removed at the end; "" for the system's temporary folder
	Cache     Cache  // of inputs; a zero Cache lies in the work folder
	Toolchain Toolchain
	Now       func() time.Time // nil for time.Now
	// Progress is called, never concurrently, when a stage ("inputs",
	// "compile", "kernel", "assemble", "describe") begins and advances.
	Progress func(stage string, done, total int64)

	reverse bool // order of everything that has an order by accident
}

// Output is what a build left in Dir.
type Output struct {
	Dir       string
	Artefacts []Artefact // sorted by name, with the manifest
	Manifest  *Manifest
}

// Path is where an artefact lies, or "" if there is none of that name.
func (o *Output) Path(name string) string {
	for _, a := range o.Artefacts {
		if a.Name == name {
			return filepath.Join(o.Dir, name)
		}
	}
	return ""
}

// Build makes the artefacts of a recipe in o.OutDir, and a manifest of them.
// They appear there all at once, or not at all.
//
// The error is a *FormatError for a recipe or lock that cannot be used, an
// *InputError for an input that cannot be had, and wraps ErrToolchain when the
// lock wants another Go.
func Build(ctx context.Context, in Inputs, o Options) (*Output, error) {
	recipe, lock, err := in.parse()
	if err != nil {
		return nil, err
	}
	out, err := filepath.Abs(o.OutDir)
	if err != nil || o.OutDir == "" {
		return nil, errors.New("building: no folder for the artefacts was named")
	}
	if left, err := os.ReadDir(out); err == nil && len(left) > 0 {
		return nil, fmt.Errorf("building: %s is not empty: name another folder, or remove it", out)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	// Go takes no relative folder for its caches.
	if o.WorkDir != "" {
		if o.WorkDir, err = filepath.Abs(o.WorkDir); err != nil {
			return nil, fmt.Errorf("building: %w", err)
		}
	}
	work, err := os.MkdirTemp(o.WorkDir, "vitrine-build-*")
	if err != nil {
		return nil, fmt.Errorf("building: making a work folder: %w", err)
	}
	defer removeAll(work)
	staging, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+".new-*")
	if err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	defer removeAll(staging) // after the rename there is nothing left to remove
	b := &build{recipe: recipe, lock: lock, in: in, o: o, work: work, files: map[string]string{}}
	if b.o.Cache.Dir == "" {
		b.o.Cache.Dir = filepath.Join(work, "inputs")
	}
	if b.tool, err = o.Toolchain.prepare(work); err != nil {
		return nil, err
	}
	if err := b.run(ctx, staging); err != nil {
		return nil, err
	}
	if err := os.Chmod(staging, 0o755); err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	// rename(2) replaces an empty folder.
	if err := os.Rename(staging, out); err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(out)); err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	return newOutput(out, b.manifest, b.manifestText), nil
}

// build is one run of Build.
type build struct {
	recipe *Recipe
	lock   *Lock
	in     Inputs
	o      Options
	tool   Toolchain
	work   string

	files        map[string]string // path of each input by its digest
	manifest     *Manifest
	manifestText []byte

	progressLock sync.Mutex
}

func (b *build) progress(stage string, done, total int64) {
	if b.o.Progress == nil {
		return
	}
	b.progressLock.Lock()
	defer b.progressLock.Unlock()
	b.o.Progress(stage, done, total)
}

func (b *build) run(ctx context.Context, out string) error {
	home := filepath.Join(b.work, "home")
	if err := b.tool.need(ctx, home, b.lock.Go); err != nil {
		return err
	}
	if err := b.getInputs(ctx); err != nil {
		return err
	}
	spec := image.Spec{
		Epoch:       b.recipe.Source.Time,
		CommandLine: b.recipe.CommandLine,
		Network:     b.recipe.Network,
		Services:    b.recipe.Services,
		Disk:        b.recipe.Stub != "",
	}
	// Unpacking a kernel and compiling are the two long parts, and neither keeps
	// all processors busy to its end.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var kernelErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		if kernelErr = b.kernel(&spec); kernelErr != nil {
			cancel(kernelErr)
		}
	})
	programs, err := b.compile(ctx, home)
	wg.Wait()
	if kernelErr != nil {
		return kernelErr
	}
	if err != nil {
		return err
	}
	if spec.Init, err = image.File(programs[b.recipe.Init.key()]); err != nil {
		return err
	}
	entries, err := b.entries(programs)
	if err != nil {
		return err
	}
	spec.Volumes = []image.Volume{{Name: "root", Mount: "/", Entries: entries}}
	b.progress("assemble", 0, 1)
	made, err := image.Assemble(ctx, spec, out)
	if err != nil {
		return err
	}
	b.progress("assemble", 1, 1)
	return b.describe(made, out)
}

// A stranger's recipe may not fill the disk: a lock of a few lines can name
// inputs without end, a packed module expand to many times its size, and one
// file be put into many places.
const (
	maxInputBytes    = 16 << 30
	maxUnpackedBytes = 4 << 30  // of all modules, without their dependencies
	maxRootBytes     = 16 << 30 // of all files in the root file system
)

func (b *build) getInputs(ctx context.Context) error {
	inputs := b.lock.Inputs()
	var total, done int64
	for _, in := range inputs {
		total += in.Size
	}
	if total > maxInputBytes {
		return fmt.Errorf("the lock names inputs of %d bytes together, more than %d: put less into the image", total, int64(maxInputBytes))
	}
	if b.o.reverse {
		slices.Reverse(inputs)
	}
	for _, in := range inputs {
		b.progress("inputs", done, total)
		fetchers := alternatives(b.in.Fetchers)
		for i, f := range fetchers {
			fetchers[i] = &counting{f, func(n int64) { b.progress("inputs", done+n, total) }}
		}
		path, err := b.o.Cache.Get(ctx, in, fetchers)
		if err != nil {
			return err
		}
		b.files[in.SHA256] = path
		done += in.Size
	}
	b.progress("inputs", total, total)
	return b.checkPackages()
}

// checkPackages compares what a package says that it is with what the lock calls
// it: otherwise an old kernel, with holes that are known, could stand there as
// the newest.
func (b *build) checkPackages() error {
	for _, p := range b.lock.Packages {
		control, err := readControl(b.files[p.SHA256])
		if err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
		if name, version := control["package"], control["version"]; name != p.Name || version != p.Version {
			return fmt.Errorf("%s is the package %q of version %q, and the lock calls it %q of version %q: run vitrine lock", p.Path, name, version, p.Name, p.Version)
		}
	}
	return nil
}

func readControl(deb string) (map[string]string, error) {
	f, err := os.Open(deb)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := image.ControlOfDeb(f)
	if err != nil {
		return nil, err
	}
	return append(stanzas(text), nil)[0], nil
}

// counting reports how much of an input has come.
type counting struct {
	Fetcher
	report func(n int64)
}

func (c *counting) Fetch(ctx context.Context, in Input) (io.ReadCloser, error) {
	r, err := c.Fetcher.Fetch(ctx, in)
	if err != nil {
		return nil, err
	}
	return &countingReader{ReadCloser: r, report: c.report}, nil
}

type countingReader struct {
	io.ReadCloser
	n, last int64
	report  func(n int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.n += int64(n); c.n-c.last >= 1<<20 {
		c.last = c.n
		c.report(c.n)
	}
	return n, err
}

// kernel fills in kernel, modules and stub.
func (b *build) kernel(spec *image.Spec) (err error) {
	b.progress("kernel", 0, 1)
	if file := b.recipe.Kernel.File; file != "" {
		if spec.Kernel, err = b.localFile(file); err != nil {
			return err
		}
	} else {
		p := b.lock.debian(b.recipe.Kernel.Package)
		f, err := os.Open(b.files[p.SHA256])
		if err != nil {
			return fmt.Errorf("opening %s: %w", p.Path, err)
		}
		defer f.Close()
		k, err := image.KernelFromDeb(f, b.recipe.Kernel.Modules)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
		spec.Kernel, spec.KernelRelease, spec.Modules = k.Image, k.Release, k.Modules
	}
	if b.recipe.Stub != "" {
		p := b.lock.debian(b.recipe.Stub)
		f, err := os.Open(b.files[p.SHA256])
		if err != nil {
			return fmt.Errorf("opening %s: %w", p.Path, err)
		}
		defer f.Close()
		if spec.Stub, err = image.StubFromDeb(f); err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
	}
	b.progress("kernel", 1, 1)
	return nil
}

func (b *build) localFile(path string) (image.Content, error) {
	for _, f := range b.lock.Files {
		if f.Path == path {
			return image.File(b.files[f.SHA256])
		}
	}
	return image.Content{}, fmt.Errorf("the lock has no file %q: run vitrine lock", path)
}

// compile unpacks the modules and builds the programs.
func (b *build) compile(ctx context.Context, home string) (map[string]string, error) {
	folders := map[string]string{}
	modules := slices.Clone(b.lock.Modules)
	if b.o.reverse {
		slices.Reverse(modules)
	}
	left := int64(maxUnpackedBytes)
	for i, m := range modules {
		size, err := unpackedSize(b.files[m.SHA256], left)
		if err != nil {
			return nil, fmt.Errorf("unpacking the module %s: %w", m.Folder, err)
		}
		left -= size
		folders[m.Folder] = filepath.Join(b.work, "modules", fmt.Sprint(i))
		if err := unpackModule(folders[m.Folder], m, b.files[m.SHA256]); err != nil {
			return nil, err
		}
		if err := setTimes(folders[m.Folder], b.now()); err != nil {
			return nil, err
		}
	}
	return compile(ctx, b.tool, home, filepath.Join(b.work, "programs"), b.recipe, folders, b.now(),
		b.o.reverse, func(done, total int64) { b.progress("compile", done, total) })
}

func (b *build) now() time.Time {
	if b.o.Now == nil {
		return time.Now()
	}
	return b.o.Now()
}

// entries gives the root file system.
func (b *build) entries(programs map[string]string) ([]image.Entry, error) {
	var all []image.Entry
	left := int64(maxRootBytes)
	for _, s := range b.recipe.Root {
		e := image.Entry{Path: strings.TrimPrefix(s.To, "/"), Mode: s.Mode, UID: s.UID, GID: s.GID}
		var err error
		switch {
		case s.Kind == KindGo:
			e.Content, err = image.File(programs[s.Program.key()])
		case s.Kind == KindFile && s.From != "":
			e.Content, err = b.localFile(s.From)
		case s.Kind == KindFile:
			e.Content = image.Bytes([]byte(s.Content))
		case s.Kind == KindSymlink:
			e.Target = s.Target
		case s.Kind == KindDir:
			e.Mode |= fs.ModeDir
		}
		if err != nil {
			return nil, err
		}
		if left -= e.Content.Size(); left < 0 {
			return nil, fmt.Errorf("the root file system has files of more than %d bytes together (at %s): put less into the image", int64(maxRootBytes), s.To)
		}
		all = append(all, e)
	}
	if b.o.reverse {
		slices.Reverse(all)
	}
	return all, nil
}

// describe writes the manifest beside the artefacts.
func (b *build) describe(made *image.Output, out string) error {
	b.progress("describe", 0, 1)
	m, err := describe(made, b.recipe.CommandLine)
	if err != nil {
		return err
	}
	m.Product, m.Version, m.Recipe, m.Lock = b.recipe.Product, b.recipe.Version, b.recipe.sha256, b.lock.sha256
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(out, ManifestName), text, 0o644); err != nil {
		return err
	}
	b.manifest, b.manifestText = m, text
	b.progress("describe", 1, 1)
	return nil
}
