package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// RecipeVersion is the value of the key "vitrine" in a recipe.
const RecipeVersion = "recipe/v1"

// Recipe is what a release engineer wants in an image (image.yaml).
type Recipe struct {
	Product       string
	Version       string
	SecurityEpoch int64
	Source        Source
	Debian        string // release whose archive the packages are locked from, "bookworm"
	Kernel        Kernel
	Stub          string  // Debian package with the EFI stub; "" for no UKI and no disk
	CommandLine   string  // of the kernel
	Init          Program // becomes /init of the initrd
	Root          []Step  // the root file system, unique by path
	Services      []guestconfig.Service
	Network       *guestconfig.Network // nil: loopback only
	Shapes        []Machine            // that a release states registers for

	sha256 string
}

// Source is where a recipe's own files come from.
type Source struct {
	URI    string
	Commit string    // 40 or 64 hex digits
	Time   time.Time // whole seconds, UTC; the one timestamp in the image
}

// Kernel is a Debian package or a local file; exactly one of Package and File
// is set.
type Kernel struct {
	// Package is the name of a Debian package, in which * stands for any text:
	// the lock takes the package with the highest version.
	Package string
	Modules []string // loaded by init in this order; of Package
	// File is a path below the recipe's folder. An image for simulated nodes,
	// which boot nothing, may name any file here: it is measured all the same.
	File string
}

// Program is one Go main package, compiled for linux/amd64 without cgo.
type Program struct {
	Module  string // folder of the module, relative to the recipe's
	Package string // import path relative to the module: "./cmd/server" or "."
	// Set gives values to string variables ("main.version"), by the linker.
	// ${VERSION} and ${BUILD_TIME} are replaced; the latter makes an image that
	// nobody can reproduce, and exists to show that this is noticed.
	Set map[string]string
}

// Step puts one thing into the root file system. Exactly one of Program, From,
// Content, Target and a directory's Mode says what it is, see Kind.
type Step struct {
	Kind     StepKind
	To       string // absolute, clean
	Mode     fs.FileMode
	UID, GID uint32
	Program  Program // KindGo
	From     string  // KindFile: path below the recipe's folder, or "" for Content
	Content  string  // KindFile
	Target   string  // KindSymlink
}

// StepKind is the key under which a step stands in the recipe.
type StepKind string

// The kinds of steps.
const (
	KindGo      StepKind = "go"
	KindFile    StepKind = "file"
	KindDir     StepKind = "dir"
	KindSymlink StepKind = "symlink"
)

const (
	maxSteps    = 1024
	maxModules  = 256
	maxServices = 32
	maxStrings  = 256
	maxSet      = 32
)

// SHA256 is the digest of the recipe's bytes in hex.
func (r *Recipe) SHA256() string { return r.sha256 }

// programs gives init and the go steps, init first.
func (r *Recipe) programs() []Program {
	all := []Program{r.Init}
	for _, s := range r.Root {
		if s.Kind == KindGo {
			all = append(all, s.Program)
		}
	}
	return all
}

// modules gives the folders of all modules and the packages used of each,
// sorted and unique.
func (r *Recipe) modules() (folders []string, packages map[string][]string) {
	packages = map[string][]string{}
	for _, p := range r.programs() {
		packages[p.Module] = append(packages[p.Module], p.Package)
	}
	for folder, list := range packages {
		slices.Sort(list)
		packages[folder] = slices.Compact(list)
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	return folders, packages
}

// files gives the paths of all files that lie beside the recipe, sorted.
func (r *Recipe) files() []string {
	var all []string
	if r.Kernel.File != "" {
		all = append(all, r.Kernel.File)
	}
	for _, s := range r.Root {
		if s.From != "" {
			all = append(all, s.From)
		}
	}
	for _, s := range r.Shapes {
		if s.Firmware.File != "" {
			all = append(all, s.Firmware.File)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ParseRecipe reads a recipe of at most 64 KiB. Unknown and repeated keys, and
// anything that is not exactly what a key takes, are a *FormatError with name
// as its file.
func ParseRecipe(name string, b []byte) (*Recipe, error) {
	root, err := document(name, b, maxRecipeBytes)
	if err != nil {
		return nil, err
	}
	m, err := root.mapping("vitrine", "product", "version", "securityEpoch", "source", "debian", "kernel", "stub", "cmdline", "init", "root", "services", "network", "shapes")
	if err != nil {
		return nil, err
	}
	if _, err := m.text("vitrine", is(RecipeVersion)); err != nil {
		return nil, err
	}
	r := &Recipe{}
	sum := sha256.Sum256(b)
	r.sha256 = hex.EncodeToString(sum[:])
	if r.Product, err = m.text("product", checkName); err != nil {
		return nil, err
	}
	if r.Version, err = m.text("version", checkVersion); err != nil {
		return nil, err
	}
	if _, err := m.need("securityEpoch"); err != nil {
		return nil, err
	}
	if r.SecurityEpoch, err = m.integer("securityEpoch", 0, 1, 1<<53-1); err != nil {
		return nil, err
	}
	if r.CommandLine, err = m.text("cmdline", checkCommandLine); err != nil {
		return nil, err
	}
	if r.Debian, err = m.optionalText("debian", checkDebianRelease); err != nil {
		return nil, err
	}
	if r.Stub, err = m.optionalText("stub", checkPackage); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		key      string
		required bool
		parse    func(*Recipe, node) error
	}{
		{"source", true, (*Recipe).parseSource},
		{"kernel", true, (*Recipe).parseKernel},
		{"init", true, (*Recipe).parseInit},
		{"network", false, (*Recipe).parseNetwork},
	} {
		n, ok := m.find(part.key)
		if !ok && part.required {
			_, err := m.need(part.key)
			return nil, err
		}
		if ok {
			if err := part.parse(r, n); err != nil {
				return nil, err
			}
		}
	}
	if len(r.packages()) > 0 && r.Debian == "" {
		return nil, m.errorf("debian is missing: name the release that kernel and stub come from, such as bookworm")
	}
	if err := r.parseRoot(m); err != nil {
		return nil, err
	}
	if err := r.parseServices(m); err != nil {
		return nil, err
	}
	if err := r.parseShapes(m); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Recipe) parseSource(n node) error {
	m, err := n.mapping("uri", "commit", "time")
	if err != nil {
		return err
	}
	if r.Source.URI, err = m.text("uri", checkText); err != nil {
		return err
	}
	if r.Source.Commit, err = m.text("commit", checkCommit); err != nil {
		return err
	}
	_, err = m.text("time", func(s string) (err error) {
		r.Source.Time, err = parseTime(s)
		return err
	})
	return err
}

func (r *Recipe) parseKernel(n node) error {
	m, err := n.mapping("package", "modules", "file")
	if err != nil {
		return err
	}
	_, hasPackage := m.find("package")
	_, hasFile := m.find("file")
	_, hasModules := m.find("modules")
	switch {
	case hasPackage == hasFile:
		return n.errorf("kernel: expected exactly one of package (a Debian package) and file (beside the recipe)")
	case hasModules && !hasPackage:
		return n.errorf("kernel: modules are taken from a kernel package: remove them or name the package")
	}
	if r.Kernel.Package, err = m.optionalText("package", checkPackagePattern); err != nil {
		return err
	}
	if r.Kernel.File, err = m.optionalText("file", checkLocalPath); err != nil {
		return err
	}
	r.Kernel.Modules, err = m.texts("modules", maxModules, checkModule)
	return err
}

func (r *Recipe) parseInit(n node) error {
	m, err := n.mapping("module", "package", "set")
	if err != nil {
		return err
	}
	r.Init, err = parseProgram(m)
	return err
}

func parseProgram(m *mapping) (p Program, err error) {
	if p.Module, err = m.text("module", checkModuleFolder); err != nil {
		return p, err
	}
	if p.Package, err = m.text("package", checkGoPackage); err != nil {
		return p, err
	}
	n, ok := m.find("set")
	if !ok {
		return p, nil
	}
	members, err := n.anyMapping(maxSet)
	if err != nil {
		return p, err
	}
	p.Set = map[string]string{}
	for _, e := range members {
		if err := checkGoVariable(e.key); err != nil {
			return p, e.value.errorf("set: %v", err)
		}
		if p.Set[e.key], err = e.value.text(e.key, checkGoValue); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (r *Recipe) parseNetwork(n node) error {
	m, err := n.mapping("interface", "address", "gateway")
	if err != nil {
		return err
	}
	network := &guestconfig.Network{}
	if network.Interface, err = m.text("interface", checkText); err != nil {
		return err
	}
	if network.Address, err = m.text("address", checkText); err != nil {
		return err
	}
	if network.Gateway, err = m.optionalText("gateway", checkText); err != nil {
		return err
	}
	// Encoding checks the values in the way in which init will.
	if _, err := guestconfig.Encode(&guestconfig.Init{Network: network}); err != nil {
		return n.errorf("%v", err)
	}
	r.Network = network
	return nil
}

func (r *Recipe) parseServices(m *mapping) error {
	nodes, err := m.list("services", maxServices)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		m, err := n.mapping("name", "argv", "env", "uid", "gid")
		if err != nil {
			return err
		}
		var s guestconfig.Service
		if s.Name, err = m.text("name", checkName); err != nil {
			return err
		}
		if s.Argv, err = m.texts("argv", maxStrings, checkArgument); err != nil {
			return err
		}
		if s.Env, err = m.texts("env", maxStrings, checkArgument); err != nil {
			return err
		}
		if s.UID, s.GID, err = owner(m); err != nil {
			return err
		}
		all := append(slices.Clone(r.Services), s)
		if _, err := guestconfig.Encode(&guestconfig.Services{Services: slices.Clone(all)}); err != nil {
			return n.errorf("%v", err)
		}
		if !r.has(s.Argv[0]) {
			return n.errorf("argv: no step of root puts a program at %s: add one", s.Argv[0])
		}
		r.Services = all
	}
	return nil
}

// has says whether a step puts a file or a link at path.
func (r *Recipe) has(path string) bool {
	return slices.ContainsFunc(r.Root, func(s Step) bool { return s.To == path && s.Kind != KindDir })
}

func owner(m *mapping) (uid, gid uint32, err error) {
	const highest = 1<<32 - 2 // 1<<32 - 1 is Linux's "leave as it is"
	u, err := m.integer("uid", 0, 0, highest)
	if err != nil {
		return 0, 0, err
	}
	g, err := m.integer("gid", 0, 0, highest)
	return uint32(u), uint32(g), err
}

func (r *Recipe) parseRoot(m *mapping) error {
	if _, err := m.need("root"); err != nil {
		return err
	}
	nodes, err := m.list("root", maxSteps)
	if err != nil {
		return err
	}
	at := map[string]Step{}
	for _, n := range nodes {
		s, err := parseStep(n)
		if err != nil {
			return err
		}
		if _, ok := at[s.To]; ok {
			return n.errorf("%s: another step puts something there: remove one", s.To)
		}
		if s.To == "/"+guestconfig.ServicesPath {
			return n.errorf("%s is written from the key services: describe them there", s.To)
		}
		at[s.To] = s
		r.Root = append(r.Root, s)
	}
	for i, s := range r.Root {
		for dir := parent(s.To); dir != ""; dir = parent(dir) {
			if up, ok := at[dir]; ok && up.Kind != KindDir {
				return nodes[i].errorf("%s lies below %s, which is no directory: change one of the two", s.To, dir)
			}
		}
	}
	return nil
}

// parent is the directory of an absolute clean path, "" for that of the root.
func parent(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

func parseStep(n node) (s Step, err error) {
	m, err := n.mapping(string(KindGo), string(KindFile), string(KindDir), string(KindSymlink))
	if err != nil {
		return s, err
	}
	if len(m.members) != 1 {
		return s, n.errorf("a step is one of go, file, dir and symlink, found %d of them: begin each with a dash of its own", len(m.members))
	}
	s.Kind = StepKind(m.members[0].key)
	inner := m.members[0].value
	switch s.Kind {
	case KindGo:
		m, err = inner.mapping("module", "package", "set", "to", "mode", "uid", "gid")
		if err == nil {
			s.Program, err = parseProgram(m)
		}
		s.Mode = 0o755
	case KindFile:
		m, err = inner.mapping("from", "content", "to", "mode", "uid", "gid")
		if err == nil {
			err = s.parseFile(m)
		}
		s.Mode = 0o644
	case KindDir:
		m, err = inner.mapping("to", "mode", "uid", "gid")
		s.Mode = fs.ModeDir | 0o755
	case KindSymlink:
		m, err = inner.mapping("to", "target")
		if err == nil {
			s.Target, err = m.text("target", checkTarget)
		}
		s.Mode = fs.ModeSymlink | 0o777
	}
	if err != nil {
		return s, err
	}
	if s.To, err = m.text("to", checkImagePath); err != nil {
		return s, err
	}
	if s.UID, s.GID, err = owner(m); err != nil {
		return s, err
	}
	if mode, ok := m.find("mode"); ok {
		bits, err := mode.octal()
		if err != nil {
			return s, err
		}
		s.Mode = s.Mode.Type() | bits
	}
	return s, nil
}

func (s *Step) parseFile(m *mapping) (err error) {
	_, from := m.find("from")
	_, content := m.find("content")
	if from == content {
		return m.errorf("a file takes exactly one of from (a path beside the recipe) and content")
	}
	if s.From, err = m.optionalText("from", checkLocalPath); err != nil {
		return err
	}
	s.Content, err = m.optionalText("content", func(string) error { return nil })
	return err
}
