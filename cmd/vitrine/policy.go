package main

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/policies"
)

func newPolicy() *cobra.Command {
	return noun("policy", "Read a policy", newPolicyExplain(), newPolicyExamples())
}

func readPolicy(path string) (*policies.Policy, error) {
	text, err := readFile(path, policies.MaxBytes)
	if err != nil {
		return nil, err
	}
	return policies.Parse(fileName(path), text)
}

func newPolicyExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain FILE",
		Short: "Say in sentences what a policy accepts",
		Example: `  vitrine policy explain policy.yaml
  vitrine policy examples strict | vitrine policy explain -`,
		Args: arguments,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := readPolicy(args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"name": p.Name, "product": p.Product, "sentences": p.Explain()})
		}
		for _, s := range p.Explain() {
			say(c, false, "%s", s)
		}
		return nil
	}
	return c
}

const exampleSuffix = ".yaml"

func newPolicyExamples() *cobra.Command {
	c := &cobra.Command{
		Use:   "examples [NAME]",
		Short: "List the policies that come with Vitrine, or print one",
		Long: `List the policies that come with Vitrine, or print the one called NAME, to start
your own from. None accepts a machine without isolation, and each names keys that
nobody holds: used as it is, it accepts nothing.`,
		Example: `  vitrine policy examples
  vitrine policy examples strict > policy.yaml`,
		Args: arguments,
	}
	asJSON := jsonFlag(c)
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, e := range policyExamples() {
			names = append(names, e.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		examples := policyExamples()
		if len(args) == 0 {
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"examples": examples})
			}
			for _, e := range examples {
				say(c, false, "%-9s %s", e.Name, e.About)
			}
			return nil
		}
		for _, e := range examples {
			if e.Name != args[0] {
				continue
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), e)
			}
			_, err := fmt.Fprint(c.OutOrStdout(), e.Text)
			return err
		}
		return fmt.Errorf("there is no example %q; see them all with: vitrine policy examples", args[0])
	}
	return c
}

type policyExample struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Text  string `json:"text"`
}

// policyExamples are the shipped policies, each with the sentence that it begins
// with.
func policyExamples() []policyExample {
	var all []policyExample
	files, err := fs.Glob(policies.Examples(), "*"+exampleSuffix)
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, file := range files {
		text, err := fs.ReadFile(policies.Examples(), file)
		if err != nil {
			panic(err) // embedded
		}
		var about []string
		for line := range strings.Lines(string(text)) {
			comment, ok := strings.CutPrefix(line, "# ")
			if !ok {
				break
			}
			about = append(about, strings.TrimSpace(comment))
		}
		sentence, _, _ := strings.Cut(strings.Join(about, " "), ". ")
		all = append(all, policyExample{strings.TrimSuffix(file, exampleSuffix), strings.TrimSuffix(sentence, "."), string(text)})
	}
	return all
}
