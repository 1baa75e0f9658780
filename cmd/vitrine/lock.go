package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
)

func newLock() *cobra.Command {
	c := &cobra.Command{
		Use:   "lock RECIPE",
		Short: "Name every input of a recipe by its digest",
		Long: `Find every input of the recipe in the folder RECIPE as it is now (Debian packages
through apt's mirrors, Go modules and files beside it) and write image.lock,
which names each by SHA-256 and size, beside image.yaml.`,
		Args: arguments,
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
