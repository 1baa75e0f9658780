package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log/statement"
)

func newChannel() *cobra.Command {
	return noun("channel", "Say which releases are current", newChannelPublish())
}

func newChannelPublish() *cobra.Command {
	c := &cobra.Command{
		Use:   "publish NAME RELEASE...",
		Short: "Publish a channel statement that lists these releases as current",
		Long: `Publish a channel statement: the releases whose transparent statements are given,
and no others, are current in the channel NAME until --valid-for has passed. A
client refuses a channel statement that is older than its policy allows, so say
this again well before.`,
		Example: `  vitrine channel publish stable image/release.transparent.json --sequence 1 \
    --key channel.key --out channel-1.json --log-policy tlog.policy`,
		Args: arguments,
	}
	sequence := c.Flags().Int64("sequence", 0, "`NUMBER` of the statement; each is higher than the last")
	valid := c.Flags().Duration("valid-for", 24*time.Hour, "how long it holds")
	f := addStatementFlags(c)
	require(c, "sequence")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := positive(c, "valid-for"); err != nil {
			return err
		}
		client, err := f.client()
		if err != nil {
			return err
		}
		current, product, err := releases(client, args[1:])
		if err != nil {
			return err
		}
		now := timeNow()
		s := &statement.Statement{Predicate: &statement.Channel{
			Product: product, Channel: args[0], Sequence: *sequence, IssuedAt: now, NotAfter: now.Add(*valid).Truncate(time.Second),
		}}
		for _, signed := range current {
			r, _ := signed.Release()
			s.Subjects = append(s.Subjects, statement.Subject{Name: r.Version, Digest: signed.ID.Digest()})
		}
		return f.publish(c, client, s)
	}
	return c
}
