package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
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

	maxRecipeBytes = 64 << 10
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

// FormatError is a recipe or a lock that cannot be used. It names the place and
// says what to do about it.
type FormatError = yamldoc.Error

// ParseRecipe reads a recipe of at most 64 KiB. Unknown and repeated keys, and
// anything that is not exactly what a key takes, are a *FormatError with name
// as its file.
func ParseRecipe(name string, b []byte) (*Recipe, error) {
	m := yamldoc.Read(name, b, yamldoc.Form{Name: "the recipe", Version: RecipeVersion, MaxBytes: maxRecipeBytes},
		"product", "version", "securityEpoch", "source", "debian", "kernel", "stub", "cmdline", "init", "root", "services", "network", "shapes")
	sum := sha256.Sum256(b)
	r := &Recipe{
		sha256:        hex.EncodeToString(sum[:]),
		Product:       m.Need("product", "name what the image is of").Text(statement.CheckName),
		Version:       m.Need("version", "give the release its version").Text(statement.CheckVersion),
		SecurityEpoch: m.Need("securityEpoch", "write 1, and more whenever a release fixes what must not run again").Integer(1, 1<<53-1),
		CommandLine:   m.Need("cmdline", "write what the kernel is started with").Text(checkCommandLine),
		Debian:        m.Optional("debian").Text(checkDebianRelease),
		Stub:          m.Optional("stub").Text(checkPackage),
		Source:        parseSource(m.Need("source", "say where the recipe's own files come from")),
		Kernel:        parseKernel(m.Need("kernel", "name its Debian package, or a file beside the recipe")),
	}
	r.Init = parseProgram(m.Need("init", "name the program that becomes /init").Mapping("module", "package", "set"))
	r.Network = parseNetwork(m.Optional("network"))
	r.parseRoot(m.Need("root", "list what goes into the root file system"))
	r.parseServices(m.Optional("services"))
	r.parseShapes(m.Optional("shapes"))
	if r.Debian == "" && len(r.packages()) > 0 {
		m.Errorf("debian is missing: name the release that its packages come from, such as bookworm")
	}
	if err := m.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

func parseSource(v yamldoc.Value) (s Source) {
	m := v.Mapping("uri", "commit", "time")
	s.URI = m.Need("uri", "write the address of the repository").Text(statement.CheckText)
	s.Commit = m.Need("commit", "write what git rev-parse HEAD prints").Text(statement.CheckCommit)
	m.Need("time", "write when the commit was made").Text(func(text string) (err error) {
		s.Time, err = parseTime(text)
		return err
	})
	return s
}

func parseKernel(v yamldoc.Value) (k Kernel) {
	m := v.Mapping("package", "modules", "file")
	name, modules, file := m.Optional("package"), m.Optional("modules"), m.Optional("file")
	switch {
	case name.Present() == file.Present():
		v.Errorf("kernel: expected exactly one of package (a Debian package) and file (beside the recipe)")
	case modules.Present() && !name.Present():
		modules.Errorf("kernel: modules are taken from a kernel package: remove them or name the package")
	}
	k.Package = name.Text(checkPackagePattern)
	k.File = file.Text(checkLocalPath)
	k.Modules = modules.Texts(maxModules, checkModule)
	return k
}

func parseProgram(m yamldoc.Mapping) (p Program) {
	p.Module = m.Need("module", "name the folder of the Go module").Text(checkModuleFolder)
	p.Package = m.Need("package", "name the main package in it, such as ./cmd/server").Text(checkGoPackage)
	set := m.Optional("set")
	if !set.Present() {
		return p
	}
	p.Set = map[string]string{}
	for _, e := range set.AnyMapping(maxSet) {
		if err := checkGoVariable(e.Key); err != nil {
			e.Value.Errorf("set: %v", err)
		}
		p.Set[e.Key] = e.Value.Text(checkGoValue)
	}
	return p
}

func parseNetwork(v yamldoc.Value) *guestconfig.Network {
	if !v.Present() {
		return nil
	}
	m := v.Mapping("interface", "address", "gateway")
	network := &guestconfig.Network{
		Interface: m.Need("interface", "name it, such as eth0").Text(statement.CheckText),
		Address:   m.Need("address", "write it with its prefix, such as 10.0.2.15/24").Text(statement.CheckText),
		Gateway:   m.Optional("gateway").Text(statement.CheckText),
	}
	// Encoding checks the values in the way in which init will.
	if _, err := guestconfig.Encode(&guestconfig.Init{Network: network}); err != nil {
		v.Errorf("%v", err)
	}
	return network
}

func (r *Recipe) parseServices(v yamldoc.Value) {
	for _, item := range v.List(maxServices) {
		m := item.Mapping("name", "argv", "env", "uid", "gid")
		var s guestconfig.Service
		s.Name = m.Need("name", "give the service a name").Text(statement.CheckName)
		argv := m.Need("argv", "list the program and its arguments")
		s.Argv = argv.Texts(maxStrings, checkArgument)
		s.Env = m.Optional("env").Texts(maxStrings, checkArgument)
		s.UID, s.GID = owner(m)
		all := append(slices.Clone(r.Services), s)
		if _, err := guestconfig.Encode(&guestconfig.Services{Services: slices.Clone(all)}); err != nil {
			item.Errorf("%v", err)
			return
		}
		if !r.has(s.Argv[0]) {
			argv.Errorf("argv: no step of root puts a program at %s: add one", s.Argv[0])
		}
		r.Services = all
	}
}

// has says whether a step puts a file or a link at path.
func (r *Recipe) has(path string) bool {
	return slices.ContainsFunc(r.Root, func(s Step) bool { return s.To == path && s.Kind != KindDir })
}

func owner(m yamldoc.Mapping) (uid, gid uint32) {
	const highest = 1<<32 - 2 // 1<<32 - 1 is Linux's "leave as it is"
	return uint32(m.Optional("uid").Integer(0, highest)), uint32(m.Optional("gid").Integer(0, highest))
}

func (r *Recipe) parseRoot(v yamldoc.Value) {
	items := v.List(maxSteps)
	at := map[string]Step{}
	for _, item := range items {
		s := parseStep(item)
		if _, ok := at[s.To]; ok {
			item.Errorf("%s: another step puts something there: remove one", s.To)
		}
		if s.To == "/"+guestconfig.ServicesPath {
			item.Errorf("%s is written from the key services: describe them there", s.To)
		}
		at[s.To] = s
		r.Root = append(r.Root, s)
	}
	for i, s := range r.Root {
		for dir := parent(s.To); dir != ""; dir = parent(dir) {
			if up, ok := at[dir]; ok && up.Kind != KindDir {
				items[i].Errorf("%s lies below %s, which is no directory: change one of the two", s.To, dir)
			}
		}
	}
}

// parent is the directory of an absolute clean path, "" for that of the root.
func parent(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

func parseStep(v yamldoc.Value) (s Step) {
	m := v.Mapping(string(KindGo), string(KindFile), string(KindDir), string(KindSymlink))
	if len(m.Members()) != 1 {
		v.Errorf("a step is one of go, file, dir and symlink, found %d of them: begin each with a dash of its own", len(m.Members()))
		return s
	}
	s.Kind = StepKind(m.Members()[0].Key)
	inner := m.Members()[0].Value
	switch s.Kind {
	case KindGo:
		m = inner.Mapping("module", "package", "set", "to", "mode", "uid", "gid")
		s.Program = parseProgram(m)
		s.Mode = 0o755
	case KindFile:
		m = inner.Mapping("from", "content", "to", "mode", "uid", "gid")
		from, content := m.Optional("from"), m.Optional("content")
		if from.Present() == content.Present() {
			inner.Errorf("a file takes exactly one of from (a path beside the recipe) and content")
		}
		s.From = from.Text(checkLocalPath)
		s.Content, _ = content.Block()
		s.Mode = 0o644
	case KindDir:
		m = inner.Mapping("to", "mode", "uid", "gid")
		s.Mode = fs.ModeDir | 0o755
	case KindSymlink:
		m = inner.Mapping("to", "target")
		s.Target = m.Need("target", "say where it leads").Text(checkTarget)
		s.Mode = fs.ModeSymlink | 0o777
	}
	s.To = m.Need("to", "say where it goes, such as /usr/bin/server").Text(checkImagePath)
	s.UID, s.GID = owner(m)
	if mode := m.Optional("mode"); mode.Present() {
		s.Mode = s.Mode.Type() | octal(mode)
	}
	return s
}
