package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
)

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
		Args: arguments,
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
				return recipe.named(err)
			}
			return printReproduction(c, r, *asJSON)
		}
		image, err := builder.Build(c.Context(), in, o)
		bars.wait()
		if err != nil {
			return recipe.named(err)
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
			say(c, false, "%s✓%s two builds gave the same bits, in %s", p.good, p.reset, r.First.Dir)
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
