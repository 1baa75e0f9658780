package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log/staple"
)

func newStaple() *cobra.Command {
	c := &cobra.Command{
		Use:   "staple NODE STATEMENT...",
		Short: "Bring a node the proofs it shows: the sidecar",
		Long: `Push the transparent statement of the release that the node runs to the node's push
port NODE (http://HOST:PORT), with newer receipts, the newest witnessed checkpoint,
and what the log says about that release: rebuilds, the channel, withdrawals. The
files are rewritten when there is a newer receipt. The node never dials out; this
sidecar holds no key, and nothing it brings is believed for its sake.`,
		Example: `  vitrine staple http://10.0.0.7:8480 image/release.transparent.json --log-policy tlog.policy`,
		Args:    arguments,
	}
	l := addLogFlags(c)
	once := c.Flags().Bool("once", false, "push once and end")
	interval := c.Flags().Duration("interval", time.Minute, "time between two pushes")
	channel := c.Flags().String("channel", "", "`NAME` of the channel to bring (default: any that lists the release)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := positive(c, "interval"); err != nil {
			return err
		}
		client, err := l.client()
		if err != nil {
			return err
		}
		config := staple.Config{
			Log: client, PushURL: args[0], Statements: args[1:], Channel: *channel, Interval: *interval, Logger: serverLogger(c),
		}
		if !*once {
			return staple.Run(c.Context(), config)
		}
		s, err := staple.New(config)
		if err != nil {
			return err
		}
		return s.Push(c.Context())
	}
	return c
}
