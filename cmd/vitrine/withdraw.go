package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// withdrawnPrefix marks the subjects of a withdrawal that are releases, and not
// their artefacts.
const withdrawnPrefix = "release-"

func newWithdraw() *cobra.Command {
	c := &cobra.Command{
		Use:   "withdraw RELEASE...",
		Short: "Take releases back",
		Long: `Publish a withdrawal of the releases whose transparent statements are given, with
all their artefacts: publishing the same bits again changes nothing. Only
--reinstate takes a withdrawal back.`,
		Example: `  vitrine withdraw image/release.transparent.json --reason "a hole in the parser" \
    --key withdrawer.key --out withdrawal-1.json --log-policy tlog.policy`,
		Args: arguments,
	}
	reason := c.Flags().String("reason", "", "why, in one `SENTENCE`")
	reinstate := c.Flags().Bool("reinstate", false, "take an earlier withdrawal of the same releases back")
	f := addStatementFlags(c)
	require(c, "reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := f.client()
		if err != nil {
			return err
		}
		withdrawn, product, err := releases(client, args)
		if err != nil {
			return err
		}
		s := &statement.Statement{Predicate: &statement.Withdrawal{
			Product: product, Registers: []statement.RegisterValue{}, Reason: *reason, Since: timeNow(), Reinstates: *reinstate,
		}}
		for i, signed := range withdrawn {
			r, _ := signed.Release()
			s.Subjects = append(s.Subjects, statement.Subject{Name: withdrawnPrefix + r.Version, Digest: signed.ID.Digest()})
			for _, a := range signed.Statement.Subjects {
				name := a.Name
				if i > 0 {
					name = fmt.Sprintf("%d-%s", i, a.Name)
				}
				s.Subjects = append(s.Subjects, statement.Subject{Name: name, Digest: a.Digest})
			}
		}
		return f.publish(c, client, s)
	}
	return c
}
