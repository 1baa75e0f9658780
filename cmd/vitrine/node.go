package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/monitor"
	"github.com/vitrine-dev/vitrine/policies"
)

func newMonitor() *cobra.Command {
	return noun("monitor", "Watch a log and rebuild what it releases", newMonitorRun())
}

func newMonitorRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Follow a log, audit each entry, rebuild each release, say what came out",
		Long: `Follow the log of the policy from its first entry. Each entry is audited; each
release of the policy's product is rebuilt from recipe and lock in an empty folder
with empty Go caches; what came out is signed with --key and put into the log:
reproduced, not-reproduced (an alert) or could-not-build (none).

Alerts are printed, and kept in FOLDER/alerts.jsonl with their evidence beside.`,
		Args: cobra.NoArgs,
	}
	dir := c.Flags().String("dir", "", "the monitor's `FOLDER`, made if needed")
	policyFile := c.Flags().String("policy", "", "policy `FILE`")
	url := c.Flags().String("log", "", "`URL` of the log (default: the one in the policy)")
	key := c.Flags().String("key", "", "`FILE` of the monitor's key")
	interval := c.Flags().Duration("interval", time.Minute, "time between two steps")
	once := c.Flags().Bool("once", false, "take one step and end")
	flags := addBuildFlags(c)
	asJSON := jsonFlag(c)
	require(c, "dir", "policy", "key")
	c.RunE = func(c *cobra.Command, _ []string) error {
		text, err := readFile(*policyFile, policies.MaxBytes)
		if err != nil {
			return err
		}
		policy, err := policies.Parse(*policyFile, text)
		if err != nil {
			return err
		}
		if len(policy.Logs) != 1 {
			return fmt.Errorf("%s names %d logs; a monitor follows one: give it a policy with one", *policyFile, len(policy.Logs))
		}
		client, err := logClient(policy.Logs[0], *url)
		if err != nil {
			return err
		}
		signer, err := readPrivateKey(*key)
		if err != nil {
			return err
		}
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		alerts := 0
		m, err := monitor.Open(monitor.Config{
			Dir: *dir, Log: client, Policy: policy, Signer: signer, Rebuilder: localRebuilder{e}, Logger: serverLogger(c),
			Report: func(event monitor.Event) {
				if event.Alert != nil {
					alerts++
				}
				printEvent(c, event, *asJSON)
			},
		})
		if err != nil {
			return err
		}
		defer m.Close()
		if !*once {
			return m.Run(c.Context(), *interval)
		}
		if err := m.Step(c.Context()); err != nil {
			return err
		}
		if alerts > 0 {
			return errNo
		}
		return nil
	}
	return c
}

// printEvent prints what a monitor did: a line for a person, or a JSON object on
// one line.
func printEvent(c *cobra.Command, e monitor.Event, asJSON bool) {
	if asJSON {
		printJSONLine(c.OutOrStdout(), e)
		return
	}
	p := colours(c.OutOrStdout())
	at := ""
	if e.Index != nil {
		at = fmt.Sprintf(" (entry %d)", *e.Index)
	}
	switch e.Event {
	case "following":
		say(c, false, "the log has %d entries", e.Size)
	case "release":
		say(c, false, "a release%s", at)
	case "rebuilding":
		say(c, false, "rebuilding %s%s", e.Version, at)
	case "rebuilt":
		say(c, false, "%s%s: %s: %s", e.Version, at, e.Outcome, e.Detail)
	case "published":
		say(c, false, "said so in the log: %s is %s%s", e.Version, e.Outcome, at)
	case "alert":
		say(c, false, "%sALERT %s%s: %s%s", p.bad, e.Alert.Code, at, e.Alert.Detail, p.reset)
	}
}
