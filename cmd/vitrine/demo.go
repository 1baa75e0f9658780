package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/cmd/internal/demo"
)

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch the whole story on this machine, in about three minutes",
		Long: `Keys, a log with two witnesses, an image built twice, a node that runs it, a client
that refuses and then accepts it, a monitor that rebuilds it, and nine attacks with
their refusals. Every command that the demo runs is printed, and is one that you
can run yourself.

Where QEMU, OVMF and swtpm are installed the image really boots, measured into a
virtual TPM (mode tpm); elsewhere it is measured as an SEV-SNP processor would,
under a throw-away root (mode simulated).`,
		Args: cobra.NoArgs,
	}
	keep := c.Flags().Bool("keep", false, "keep the demo's folder")
	mode := c.Flags().String("mode", "", "`MODE`: tpm or simulated (default: what this machine has)")
	recipes := c.Flags().String("recipes", "testdata/recipes", "`FOLDER` with the repository's recipes")
	verbose := c.Flags().Bool("verbose", false, "print what the commands say on stderr")
	asJSON := c.Flags().Bool("json", false, "print one JSON object per step")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *mode != "" && *mode != string(demo.TPM) && *mode != string(demo.Simulated) {
			return fmt.Errorf("--mode %s is neither tpm nor simulated", *mode)
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		var log io.Writer
		if *verbose {
			log = c.ErrOrStderr()
		}
		err = demo.Run(c.Context(), demo.Config{
			Vitrine: exe, Recipes: *recipes, Mode: demo.Mode(*mode), Keep: *keep, JSON: *asJSON,
			Out: c.OutOrStdout(), Log: log, Colour: colours(c.OutOrStdout()) != palette{},
		})
		if errors.Is(err, demo.ErrFailed) {
			return errNo
		}
		return err
	}
	return c
}
