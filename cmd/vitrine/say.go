package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// sayFlags are those of the commands that make a statement about releases.
type sayFlags struct {
	logFlags
	key    *string
	out    *string
	asJSON *bool
}

func addSayFlags(c *cobra.Command) sayFlags {
	f := sayFlags{
		logFlags: addLogFlags(c),
		key:      c.Flags().String("key", "", "`FILE` of the key that signs"),
		out:      c.Flags().String("out", "", "`FILE` (ending in .json) for the payload; the signed bytes are kept beside it"),
		asJSON:   jsonFlag(c),
	}
	require(c, "key", "out")
	return f
}

// publish writes the payload, and then does what vitrine publish does with it.
func (f sayFlags) publish(c *cobra.Command, client *log.Client, s *statement.Statement) error {
	signer, err := readPrivateKey(*f.key)
	if err != nil {
		return err
	}
	payload, err := s.Payload()
	if err != nil {
		return err
	}
	base, ok := strings.CutSuffix(*f.out, ".json")
	if !ok {
		return fmt.Errorf("--out %s does not end in .json", *f.out)
	}
	if err := writeNew(*f.out, append(payload, '\n'), 0o644); err != nil {
		return fmt.Errorf("%w (to send it again: vitrine publish %s)", err, *f.out)
	}
	return (&submission{base: base, payload: payload}).publish(c, client, signer, *f.asJSON)
}

// releases reads the transparent statements that a command was given.
func releases(client *log.Client, paths []string) (all []*statement.Signed, product string, err error) {
	for _, path := range paths {
		signed, _, err := readRelease(client, path)
		if err != nil {
			return nil, "", err
		}
		switch p := signed.Statement.Product(); {
		case product == "":
			product = p
		case product != p:
			return nil, "", fmt.Errorf("%s is a release of %s, and the others are of %s; make one statement for each product", path, p, product)
		}
		all = append(all, signed)
	}
	return all, product, nil
}

func newChannel() *cobra.Command {
	c := &cobra.Command{Use: "channel", Short: "Say which releases are current"}
	c.AddCommand(newChannelPublish())
	return c
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
		Args: cobra.MinimumNArgs(2),
	}
	sequence := c.Flags().Int64("sequence", 0, "`NUMBER` of the statement; each is higher than the last")
	valid := c.Flags().Duration("valid-for", 24*time.Hour, "how long it holds")
	f := addSayFlags(c)
	require(c, "sequence")
	c.RunE = func(c *cobra.Command, args []string) error {
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

func newWithdraw() *cobra.Command {
	c := &cobra.Command{
		Use:   "withdraw RELEASE...",
		Short: "Take releases back",
		Long: `Publish a withdrawal of the releases whose transparent statements are given, with
all their artefacts: publishing the same bits again changes nothing. Only
--reinstate takes a withdrawal back.`,
		Args: cobra.MinimumNArgs(1),
	}
	reason := c.Flags().String("reason", "", "why, in one line")
	reinstate := c.Flags().Bool("reinstate", false, "take an earlier withdrawal of the same releases back")
	f := addSayFlags(c)
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
			s.Subjects = append(s.Subjects, statement.Subject{Name: "release-" + r.Version, Digest: signed.ID.Digest()})
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
