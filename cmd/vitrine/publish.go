package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func newPublish() *cobra.Command {
	c := &cobra.Command{
		Use:   "publish IMAGE",
		Short: "Sign a release and put it into a log",
		Long: `Predict the registers of the image in the folder IMAGE (made by vitrine build)
from its artefacts, sign the release statement, and put it into the log, with
recipe, lock and local inputs beside it. IMAGE may also be a file with a
statement's payload, as --dry-run prints it.

The signed bytes stay beside IMAGE before they are sent, and a later call sends
the same ones: when the log has the entry but no quorum of witnesses answered,
call again, and the same entry gets its receipt. The key is not needed for that.
What the log refuses leaves no signed bytes behind.

Exit status 0: it is in the log and has its receipt. 1: the log refused it, or has no
receipt for it yet. 2: the log could not be asked.`,
		Example: `  vitrine publish image --recipe testdata/recipes/hello-inference \
    --key publisher.key --log-policy tlog.policy
  vitrine publish image --recipe testdata/recipes/hello-inference --dry-run > payload.json`,
		Args: arguments,
	}
	recipe := addRecipeFlags(c)
	key := c.Flags().String("key", "", "publisher's key `FILE`; not needed where the signed bytes are there already")
	dryRun := c.Flags().Bool("dry-run", false, "print the statement's payload and do nothing")
	addenda := c.Flags().StringArray("addendum", nil, "`FILE` to store beside the log as well; may be repeated")
	flags := addBuildFlags(c)
	l := addLogFlags(c)
	asJSON := jsonFlag(c)
	// A payload that is only shown goes into no log.
	delete(c.Flags().Lookup("log-policy").Annotations, cobra.BashCompOneRequiredFlag)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *l.policy == "" && !*dryRun {
			return usageError(c, errors.New("--log-policy FILE is missing"))
		}
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		s, err := e.submission(c.Context(), args[0], recipe)
		if err != nil {
			return recipe.named(err)
		}
		if *dryRun {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", s.payload)
			return err
		}
		client, err := l.client()
		if err != nil {
			return err
		}
		for _, path := range *addenda {
			if _, err := os.Stat(path); err != nil {
				return noSuch(err)
			}
			s.addenda = append(s.addenda, openFile(path))
		}
		return s.publish(c, client, *key, *asJSON)
	}
	return c
}
