package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// compilation is the programs of one module that one `go build` makes.
type compilation struct {
	module   string
	set      map[string]string
	packages []string
}

// key identifies a program: the same package with the same variables is
// compiled once, wherever it goes.
func (p Program) key() string {
	return fmt.Sprintf("%q %q %q", p.Module, p.Package, slices.Sorted(maps.Keys(p.Set))) + fmt.Sprintf("%q", sortedValues(p.Set))
}

func sortedValues(m map[string]string) []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// compilations groups programs so that go build loads each module as rarely as
// possible and links several programs at once. Two packages whose programs would
// have the same file name are kept apart.
func compilations(programs []Program) []compilation {
	var all []compilation
	for _, p := range programs {
		i := slices.IndexFunc(all, func(c compilation) bool {
			return c.module == p.Module && maps.Equal(c.set, p.Set) && (slices.Contains(c.packages, p.Package) || !slices.ContainsFunc(c.packages, func(other string) bool {
				return p.Package == "." || other == "." || path.Base(other) == path.Base(p.Package) || majorVersion.MatchString(path.Base(p.Package)) || majorVersion.MatchString(path.Base(other))
			}))
		})
		switch {
		case i < 0:
			all = append(all, compilation{p.Module, p.Set, []string{p.Package}})
		case !slices.Contains(all[i].packages, p.Package):
			all[i].packages = append(all[i].packages, p.Package)
		}
	}
	return all
}

// majorVersion is a last path element that go build leaves out of the name of
// a program.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// compile builds the programs of a recipe and gives the path of each by its key.
// Modules lie unpacked in folders; what comes out lies in bin.
func compile(ctx context.Context, t Toolchain, home, bin string, r *Recipe, folders map[string]string, buildTime time.Time, reverse bool, progress func(done, total int64)) (map[string]string, error) {
	todo := compilations(r.programs())
	if reverse {
		slices.Reverse(todo)
	}
	made := map[string]string{}
	for i, c := range todo {
		progress(int64(i), int64(len(todo)))
		dir := filepath.Join(bin, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("compiling: %w", err)
		}
		if err := checkAssembly(ctx, t, home, folders[c.module], c); err != nil {
			return nil, err
		}
		// -buildid= and -trimpath: nothing of the machine, the folder and the
		// cache stays in the program. -s -w: no symbol table and no debug data,
		// which only make the image larger.
		args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=" + linkerFlags(c.set, r.Version, buildTime)}
		args = append(args, t.parallel()...)
		if len(c.packages) == 1 {
			args = append(args, "-o", filepath.Join(dir, "program"), "--", c.packages[0])
		} else {
			args = append(append(args, "-o", dir+"/", "--"), c.packages...)
		}
		if _, err := t.run(ctx, home, folders[c.module], args...); err != nil {
			return nil, &CompileError{c.module, c.packages, err}
		}
		for _, p := range c.packages {
			name := "program"
			if len(c.packages) > 1 {
				name = path.Base(p)
			}
			file := filepath.Join(dir, name)
			if err := checkProgram(file); err != nil {
				return nil, &CompileError{c.module, []string{p}, err}
			}
			made[Program{c.module, p, c.set}.key()] = file
		}
	}
	progress(int64(len(todo)), int64(len(todo)))
	return made, nil
}

// CompileError is a module of the recipe that does not compile.
type CompileError struct {
	Module   string
	Packages []string
	Err      error
}

func (e *CompileError) Error() string { return e.Public() + ": " + e.Err.Error() }

func (e *CompileError) Unwrap() error { return e.Err }

// Public is the error without what go printed, which names folders of this
// machine and quotes whatever it read: a rebuilder must not publish that.
func (e *CompileError) Public() string {
	return fmt.Sprintf("compiling %s of the module %s failed", strings.Join(e.Packages, ", "), e.Module)
}

// checkProgram refuses the archive that go build -o writes for a package that
// is no program, which would be an /init that does not start.
func checkProgram(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("go build made no program of it: name a package main")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.Read(magic); err != nil || string(magic) != "\x7fELF" {
		return errors.New("go build made no program of it: name a package main")
	}
	return nil
}

// linkerFlags gives the value of -ldflags. The names and values of a recipe
// hold no quote (checkGoValue), so none can leave the quotes put around it.
func linkerFlags(set map[string]string, version string, buildTime time.Time) string {
	// Without -linkmode, a module that imports runtime/cgo and brings an object
	// file (.syso) has its program linked by the C compiler of this machine.
	flags := []string{"-s", "-w", "-buildid=", "-linkmode=internal"}
	replace := strings.NewReplacer(varVersion, version, varBuildTime, buildTime.UTC().Format(time.RFC3339))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		flags = append(flags, "-X", "'"+name+"="+replace.Replace(set[name])+"'")
	}
	return strings.Join(flags, " ")
}
