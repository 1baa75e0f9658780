package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	c := &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write the manual pages",
		Long: `Write a manual page for each command into FOLDER, which is made if needed. To read
one: man FOLDER/vitrine-verify.1`,
		Example: `  vitrine man /usr/local/share/man/man1`,
		Args:    arguments,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return fmt.Errorf("making the folder for manual pages: %w", err)
		}
		root := c.Root()
		root.InitDefaultHelpCmd()
		n, err := writeManuals(root, args[0])
		if err != nil {
			return err
		}
		say(c, false, "wrote %d manual pages to %s", n, args[0])
		return nil
	}
	return c
}

// writeManuals writes the pages of a command and of those below it. Each is
// written whole or not at all, so that a half-written one is never installed.
func writeManuals(c *cobra.Command, dir string) (n int, err error) {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		below, err := writeManuals(sub, dir)
		if err != nil {
			return n, err
		}
		n += below
	}
	var page strings.Builder
	// The page carries no date: the same program writes the same pages.
	c.DisableAutoGenTag = true
	if err := doc.GenMan(c, &doc.GenManHeader{Section: "1", Source: "Vitrine " + version(), Manual: "Vitrine"}, &page); err != nil {
		return n, fmt.Errorf("writing the manual page of %s: %w", c.CommandPath(), err)
	}
	path := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
	if err := replaceFile(path, []byte(page.String())); err != nil {
		return n, err
	}
	return n + 1, nil
}
