package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noun makes a command that only holds others. Alone it shows its help; a verb
// that it does not have is a mistake, and not a reason to show the help and
// call that a success.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("there is no command %q; did you mean %s?", args[0], strings.Join(near, " or "))
			}
			return fmt.Errorf("there is no command %q; see %s --help", args[0], c.CommandPath())
		},
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
		DisableFlagsInUseLine:      true,
	}
	c.AddCommand(verbs...)
	return c
}

// arguments wants the arguments that a command's usage line names, in words
// such as "FILE", "[FILE]" and "FILE...".
func arguments(c *cobra.Command, args []string) error {
	names := strings.Fields(c.Use)[1:]
	for i, name := range names {
		if strings.HasPrefix(name, "[") {
			continue
		}
		if i >= len(args) {
			return usageError(c, fmt.Errorf("%s is missing", strings.TrimSuffix(name, "...")))
		}
	}
	if n := len(names); len(args) > n && (n == 0 || !strings.HasSuffix(names[n-1], "...")) {
		return usageError(c, fmt.Errorf("the argument %q is one too many", args[n]))
	}
	return nil
}

func usageError(c *cobra.Command, err error) error {
	return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
}

// require marks flags that a command cannot do without; checkFlags refuses.
func require(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err) // a name that is not a flag's: a mistake in this package
		}
	}
}

// exclusiveGroups is where cobra notes which flags exclude one another.
const exclusiveGroups = "cobra_annotation_mutually_exclusive"

// checkFlags says in sentences what cobra would say after it: which flag is
// missing, and which may not stand together.
func checkFlags(c *cobra.Command, _ []string) error {
	var err error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if err != nil {
			return
		}
		if needed := f.Annotations[cobra.BashCompOneRequiredFlag]; slices.Contains(needed, "true") && !f.Changed {
			name, _ := pflag.UnquoteUsage(f)
			err = usageError(c, fmt.Errorf("--%s %s is missing", f.Name, name))
			return
		}
		for _, group := range f.Annotations[exclusiveGroups] {
			var given []string
			for _, other := range strings.Fields(group) {
				if c.Flags().Changed(other) {
					given = append(given, "--"+other)
				}
			}
			if len(given) > 1 {
				err = usageError(c, errors.New(strings.Join(given, " and ")+" exclude one another"))
				return
			}
		}
	})
	return err
}

// positive refuses flags whose time is none: a server would never rest.
func positive(c *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if d, err := c.Flags().GetDuration(name); err != nil || d <= 0 {
			return fmt.Errorf("--%s %v is no time; give one such as 1m", name, d)
		}
	}
	return nil
}

// oneOf lets a shell complete the values of a flag.
func oneOf(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a name that is not a flag's: a mistake in this package
	}
}
