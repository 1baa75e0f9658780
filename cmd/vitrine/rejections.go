package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func newRejections() *cobra.Command {
	c := &cobra.Command{
		Use:   "rejections [CODE]",
		Short: "List every reason for a refusal, its cause and its mend",
		Long: `List the closed list of codes with which Vitrine refuses. With a code, or the
beginning of one, only those. docs/rejections.md is the same list to read.`,
		Example: `  vitrine rejections receipt/
  vitrine rejections hardware/sev-snp/vcek-expired`,
		Args: arguments,
	}
	asJSON := jsonFlag(c)
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var codes []string
		for _, info := range hardware.Codes() {
			if len(args) == 0 {
				codes = append(codes, string(info.Code))
			}
		}
		return codes, cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		var prefix string
		if len(args) == 1 {
			prefix = args[0]
		}
		codes := []hardware.CodeInfo{}
		for _, info := range hardware.Codes() {
			if strings.HasPrefix(string(info.Code), prefix) {
				codes = append(codes, info)
			}
		}
		if len(codes) == 0 {
			return fmt.Errorf("no code begins with %q; see them all with: vitrine rejections", prefix)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"rejections": codes})
		}
		p := colours(c.OutOrStdout())
		for _, info := range codes {
			fmt.Fprintf(c.OutOrStdout(), "%s%s%s\n  %s\n  %s→ %s%s\n", p.bold, info.Code, p.reset, info.Cause, p.dim, info.Mend, p.reset)
		}
		return nil
	}
	return c
}
