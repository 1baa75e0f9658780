package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/monitor"
)

func newRebuild() *cobra.Command {
	c := &cobra.Command{
		Use:   "rebuild RELEASE",
		Short: "Build a release again and compare every bit and every register",
		Long: `Build a release again from the recipe, lock and local inputs that lie beside the
log, with empty Go caches, and compare every artefact and every register that it
states. RELEASE is the file of its transparent statement.

Exit status 0: the same bits. 1: other bits. 2: nothing could be built.`,
		Example: `  vitrine rebuild release.transparent.json --log-policy tlog.policy`,
		Args:    arguments,
	}
	out := c.Flags().String("out", "", "keep the artefacts in this `FOLDER`")
	flags := addBuildFlags(c)
	l := addLogFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := l.client()
		if err != nil {
			return err
		}
		release, index, err := readRelease(client, args[0])
		if err != nil {
			return err
		}
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		work, err := os.MkdirTemp("", "vitrine-rebuild-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		folder := *out
		if folder == "" {
			folder = filepath.Join(work, "image")
		}
		bars := newProgress(c.ErrOrStderr())
		got, err := builder.Rebuild(c.Context(), release, monitor.Addenda{Client: client}, e.fetchers(), builder.Options{
			OutDir: folder, WorkDir: work, Toolchain: e.toolchain, Progress: bars.step,
		})
		bars.wait()
		if err != nil {
			return err
		}
		return printRebuilt(c, release, index, got, *asJSON)
	}
	return c
}

// readRelease reads a transparent statement and verifies that it is in the log.
func readRelease(client *log.Client, path string) (*statement.Signed, int64, error) {
	b, err := readFile(path, receipt.MaxTransparentBytes)
	if err != nil {
		return nil, 0, err
	}
	t, err := receipt.ParseTransparent(b)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	best, err := client.Policy().VerifyTransparent(t, timeNow())
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	signed, err := statement.Parse(t.Leaf)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	if _, ok := signed.Release(); !ok {
		return nil, 0, fmt.Errorf("%s is no release; name the transparent statement of one", path)
	}
	return signed, best.Newest.Index, nil
}

func printRebuilt(c *cobra.Command, release *statement.Signed, index int64, got *builder.Rebuilt, asJSON bool) error {
	r, _ := release.Release()
	if asJSON {
		err := printJSON(c.OutOrStdout(), map[string]any{
			"product": r.Product, "version": r.Version, "release": release.ID.String(), "index": index,
			"outcome": got.Outcome, "differences": got.Differences, "claims": got.Claims, "reason": got.Reason,
		})
		if err != nil {
			return err
		}
	}
	p := colours(c.OutOrStdout())
	what := fmt.Sprintf("%s %s (entry %d)", r.Product, r.Version, index)
	switch got.Outcome {
	case statement.Reproduced:
		say(c, asJSON, "%s✓%s %s: every artefact and every register came out the same", p.good, p.reset, what)
		return nil
	case statement.NotReproduced:
		say(c, asJSON, "%s✗%s %s is not what its source gives:", p.bad, p.reset, what)
		for _, cause := range builder.Causes(got.Differences) {
			say(c, asJSON, "  %s", cause)
		}
		for _, claim := range got.Claims {
			say(c, asJSON, "  %s: published %s, rebuilt %s", claim.Member, claim.Published, claim.Rebuilt)
		}
		return errNo
	}
	return fmt.Errorf("%s could not be built: %s", what, got.Reason)
}

// localRebuilder is the monitor's: the libraries that everybody uses, with
// nothing kept from one rebuild to the next.
type localRebuilder struct{ e *environment }

func (l localRebuilder) Rebuild(ctx context.Context, release *statement.Signed, addenda builder.Addenda, dir string) (*builder.Rebuilt, error) {
	if l.e.toolchain.Cache != "" || l.e.toolchain.ModCache != "" {
		return nil, errors.New("a rebuild that counts begins with empty Go caches")
	}
	return builder.Rebuild(ctx, release, addenda, l.e.fetchers(), builder.Options{
		OutDir: filepath.Join(dir, "image"), WorkDir: dir, Toolchain: l.e.toolchain,
	})
}
