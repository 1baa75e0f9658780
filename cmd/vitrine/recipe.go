package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
)

const (
	recipeFile = "image.yaml"
	lockFile   = "image.lock"
	// maxRecipeBytes is what builder.ParseRecipe and ParseLock take at most.
	maxRecipeBytes = 256 << 10
)

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

func (f *recipeFlags) recipePath() string { return filepath.Join(f.dir, recipeFile) }

func (f *recipeFlags) recipe() (builder.Inputs, error) {
	b, err := readFile(f.recipePath(), maxRecipeBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return builder.Inputs{}, fmt.Errorf("%w; name the folder of a recipe, which holds %s", err, recipeFile)
	}
	return builder.Inputs{Recipe: b}, err
}

// named puts the paths that a person gave into an error about a recipe or its
// lock: the library was given bytes, and knows only what such files are called.
func (f *recipeFlags) named(err error) error {
	var at *builder.FormatError
	if errors.As(err, &at) {
		switch at.File {
		case recipeFile:
			at.File = f.recipePath()
		case lockFile:
			at.File = f.lockPath()
		}
	}
	return err
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
		return in, fmt.Errorf("%w; make it with: vitrine lock %s", err, f.dir)
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
