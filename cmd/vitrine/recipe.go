package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
)

const (
	recipeFile = "image.yaml"
	lockFile   = "image.lock"
	// maxRecipeBytes is what builder.ParseRecipe and ParseLock take at most.
	maxRecipeBytes = 256 << 10
)

// environment is what building needs of this machine.
type environment struct {
	mirrors   *builder.Mirrors // nil where apt names none
	toolchain builder.Toolchain
	cache     builder.Cache
}

// buildFlags are those of every command that builds.
type buildFlags struct {
	cache   *string
	goCache *string
	apt     *string
}

func addBuildFlags(c *cobra.Command) buildFlags {
	return buildFlags{
		cache:   c.Flags().String("cache", "", "`FOLDER` that keeps fetched inputs (default: in the user's cache folder)"),
		goCache: c.Flags().String("go-cache", "", "`FOLDER` that keeps compiled Go packages; what lies in it is believed (default: none, compile everything)"),
		apt:     c.Flags().String("apt", "/etc/apt", "`FOLDER` of the apt configuration that names Debian's mirrors"),
	}
}

// environment reads what the machine has. The one place that looks at
// environment variables is here.
func (f buildFlags) environment(ctx context.Context) (*environment, error) {
	e := &environment{cache: builder.Cache{Dir: *f.cache}}
	if e.cache.Dir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding a folder for inputs: %w; name one with --cache", err)
		}
		e.cache.Dir = filepath.Join(dir, "vitrine", "inputs")
	}
	e.toolchain.ModCache = *f.goCache
	if *f.goCache != "" {
		e.toolchain.Cache = filepath.Join(*f.goCache, "build")
		e.toolchain.ModCache = filepath.Join(*f.goCache, "mod")
	}
	// `go env` knows the variable and the user's configuration file alike.
	if out, err := exec.CommandContext(ctx, "go", "env", "GOPROXY").Output(); err == nil {
		e.toolchain.Proxy = strings.TrimSpace(string(out))
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			e.toolchain.Environment = append(e.toolchain.Environment, name+"="+v)
		}
	}
	mirrors, err := builder.AptMirrors(*f.apt)
	if err == nil {
		e.mirrors = mirrors
	}
	return e, nil
}

// recipeFlags name a recipe's folder, and its lock where that lies elsewhere.
type recipeFlags struct{ dir, lock string }

func addRecipeFlags(c *cobra.Command) *recipeFlags {
	f := &recipeFlags{}
	c.Flags().StringVar(&f.dir, "recipe", "", "`FOLDER` of the recipe and lock that IMAGE was built from")
	addLockFlag(c, f)
	return f
}

func addLockFlag(c *cobra.Command, f *recipeFlags) {
	c.Flags().StringVar(&f.lock, "lock", "", "lock `FILE` (default: image.lock beside the recipe)")
}

func (f *recipeFlags) lockPath() string {
	if f.lock != "" {
		return f.lock
	}
	return filepath.Join(f.dir, lockFile)
}

func (f *recipeFlags) recipe() (builder.Inputs, error) {
	b, err := readFile(filepath.Join(f.dir, recipeFile), maxRecipeBytes)
	return builder.Inputs{Recipe: b}, err
}

// inputs is a recipe with everything on this machine that may have its inputs.
func (e *environment) inputs(f *recipeFlags) (builder.Inputs, error) {
	if f.dir == "" {
		return builder.Inputs{}, errors.New("an image is measured as its recipe says; name the recipe's folder with --recipe")
	}
	in, err := f.recipe()
	if err != nil {
		return in, err
	}
	in.Lock, err = readFile(f.lockPath(), maxRecipeBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("there is no %s; make it with: vitrine lock %s", f.lockPath(), f.dir)
	}
	if err != nil {
		return in, err
	}
	folder, err := builder.RecipeFolder(f.dir, in.Recipe, e.toolchain)
	if err != nil {
		return in, err
	}
	in.Fetchers = append([]builder.Fetcher{e.cache, folder}, e.fetchers()...)
	return in, nil
}

// fetchers are the public mirrors.
func (e *environment) fetchers() []builder.Fetcher {
	if e.mirrors == nil {
		return nil
	}
	return []builder.Fetcher{e.mirrors}
}

func newLock() *cobra.Command {
	c := &cobra.Command{
		Use:   "lock RECIPE",
		Short: "Name every input of a recipe by its digest",
		Long: `Find every input of the recipe in the folder RECIPE as it is now (Debian packages
through apt's mirrors, Go modules and files beside it) and write image.lock,
which names each by SHA-256 and size, beside image.yaml.`,
		Args: cobra.ExactArgs(1),
	}
	recipe := &recipeFlags{}
	addLockFlag(c, recipe)
	flags := addBuildFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		recipe.dir = args[0]
		in, err := recipe.recipe()
		if err != nil {
			return err
		}
		bars := newProgress(c.ErrOrStderr())
		lock, err := builder.LockRecipe(c.Context(), args[0], in.Recipe, builder.LockOptions{
			Mirrors: e.mirrors, Toolchain: e.toolchain, Cache: e.cache, Progress: bars.step,
		})
		bars.wait()
		if err != nil {
			return err
		}
		text, err := lock.Marshal()
		if err != nil {
			return err
		}
		path := recipe.lockPath()
		if err := replaceFile(path, text); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"lock": path, "sha256": lock.SHA256(), "go": lock.Go, "inputs": len(lock.Inputs())})
		}
		say(c, false, "%s names %d inputs and Go %s", path, len(lock.Inputs()), strings.TrimPrefix(lock.Go, "go"))
		return nil
	}
	return c
}

func newBuild() *cobra.Command {
	c := &cobra.Command{
		Use:   "build RECIPE",
		Short: "Build an image, bit for bit",
		Long: `Build the recipe in the folder RECIPE from what its lock names, into the folder
that --out names. The same recipe and lock give the same bytes everywhere.

With --check it is built twice, under conditions that differ in all that must
not matter (folders, umask, locale, time zone, file order, and a clock that is
more than a day ahead), and a file that differs is named.`,
		Example: `  vitrine build testdata/recipes/hello-inference --out image
  vitrine build testdata/recipes/unreproducible --out image --check`,
		Args: cobra.ExactArgs(1),
	}
	out := c.Flags().String("out", "", "`FOLDER` for the artefacts; must not exist, or be empty")
	recipe := &recipeFlags{}
	addLockFlag(c, recipe)
	check := c.Flags().Bool("check", false, "build twice, in the folders first and second of --out, and compare")
	flags := addBuildFlags(c)
	asJSON := jsonFlag(c)
	require(c, "out")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		recipe.dir = args[0]
		in, err := e.inputs(recipe)
		if err != nil {
			return err
		}
		bars := newProgress(c.ErrOrStderr())
		o := builder.Options{OutDir: *out, Cache: e.cache, Toolchain: e.toolchain, Progress: bars.step}
		if *check {
			r, err := builder.Reproduce(c.Context(), in, o)
			bars.wait()
			if err != nil {
				return err
			}
			return printReproduction(c, r, *asJSON)
		}
		image, err := builder.Build(c.Context(), in, o)
		bars.wait()
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"folder": image.Dir, "artefacts": image.Artefacts, "volumes": image.Manifest.Volumes})
		}
		printArtefacts(c, image)
		return nil
	}
	return c
}

func printArtefacts(c *cobra.Command, image *builder.Output) {
	for _, a := range image.Artefacts {
		fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", a.SHA256, a.Name)
	}
}

// printReproduction prints what two builds of one recipe gave; the answer is no
// if they differ.
func printReproduction(c *cobra.Command, r *builder.Reproduction, asJSON bool) error {
	if asJSON {
		err := printJSON(c.OutOrStdout(), map[string]any{
			"reproduced": r.Reproduced(), "folder": r.First.Dir, "artefacts": r.First.Artefacts,
			"differences": r.Differences, "causes": builder.Causes(r.Differences),
		})
		if err != nil {
			return err
		}
	} else {
		p := colours(c.OutOrStdout())
		printArtefacts(c, r.First)
		if r.Reproduced() {
			say(c, false, "%s✓%s two builds gave the same bits", p.good, p.reset)
		} else {
			say(c, false, "%s✗%s two builds gave other bits; these files differ:", p.bad, p.reset)
			for _, cause := range builder.Causes(r.Differences) {
				say(c, false, "  %s", cause)
			}
		}
	}
	if !r.Reproduced() {
		return errNo
	}
	return nil
}
