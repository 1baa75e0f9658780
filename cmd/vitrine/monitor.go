package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/monitor"
)

func newMonitor() *cobra.Command {
	return noun("monitor", "Watch a log and rebuild what it releases", newMonitorRun(), newMonitorShow(), newMonitorAlerts())
}

func newMonitorRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Follow a log, audit each entry, rebuild each release, say what came out",
		Long: `Follow the log of the policy from its first entry. Each entry is audited; each
release of the policy's product is rebuilt from recipe and lock in an empty folder
with empty Go caches; what came out is signed with --key and put into the log:
reproduced, not-reproduced (an alert) or could-not-build (none, and tried again).

Alerts are printed, and kept in FOLDER/alerts.jsonl with their evidence beside;
vitrine monitor alerts says what each means and what to do. docs/monitor.md has
the rest.

Exit status 1: with --once, there were alerts; or the log has forked, which ends
the monitor.`,
		Example: `  vitrine keygen monitor
  vitrine monitor run --dir monitor --policy policy.yaml --key monitor.key`,
		Args: arguments,
	}
	dir := c.Flags().String("dir", "", "the monitor's `FOLDER`, made if needed")
	policyFile := c.Flags().String("policy", "", "policy `FILE`")
	url := c.Flags().String("log", "", "`URL` of the log (default: the one in the policy)")
	key := c.Flags().String("key", "", "`FILE` of the monitor's key")
	interval := c.Flags().Duration("interval", time.Minute, "time between two looks at the log")
	once := c.Flags().Bool("once", false, "take one step and end")
	parallel := c.Flags().Int("parallel", 1, "`NUMBER` of rebuilds at once")
	timeout := c.Flags().Duration("rebuild-timeout", 2*time.Hour, "longest time for one rebuild")
	retry := c.Flags().Duration("retry-after", 24*time.Hour, "try what could not be built again after this time, then after ever longer ones")
	flags := addBuildFlags(c)
	asJSON := jsonFlag(c)
	require(c, "dir", "policy", "key")
	c.RunE = func(c *cobra.Command, _ []string) error {
		for flag, d := range map[string]time.Duration{"interval": *interval, "rebuild-timeout": *timeout, "retry-after": *retry} {
			if d <= 0 {
				return fmt.Errorf("--%s %v is no time; give one such as 1m", flag, d)
			}
		}
		if *parallel < 1 {
			return fmt.Errorf("--parallel %d rebuilds nothing; give 1 or more", *parallel)
		}
		if *flags.goCache != "" {
			return errors.New("a rebuild that counts begins with empty Go caches, and what lies in one is believed; leave out --go-cache")
		}
		policy, err := readPolicy(*policyFile)
		if err != nil {
			return err
		}
		if len(policy.Logs) != 1 {
			return fmt.Errorf("%s names %d logs, and a monitor follows one; write a policy for each, and run a monitor with a folder of its own for each", fileName(*policyFile), len(policy.Logs))
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
			Parallel: *parallel, RebuildTimeout: *timeout, RetryAfter: *retry,
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
		if *once {
			err = m.Step(c.Context())
		} else {
			err = m.Run(c.Context(), *interval)
		}
		var fork *log.ForkError
		if errors.As(err, &fork) {
			info, _ := monitor.Fork.Info()
			fmt.Fprintf(c.ErrOrStderr(), "%s: %v\n%s\n", c.CommandPath(), err, info.Mend)
			return errNo
		}
		if err != nil {
			return err
		}
		if *once && alerts > 0 {
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
		for _, name := range e.Alert.Evidence {
			say(c, false, "  evidence: %s", name)
		}
	}
}

func newMonitorShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show FOLDER",
		Short: "Say how far a monitor is, and what came out",
		Long: `Read what the monitor in FOLDER knows: how far it has followed its log, what each
release came out as, what goes wrong. The monitor may be running.

Exit status 1: the log has forked, or a release was not reproduced.`,
		Example: `  vitrine monitor show monitor`,
		Args:    arguments,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := monitor.Look(args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), s)
		} else {
			printMonitor(c, s)
		}
		if err == nil && !s.Well() {
			return errNo
		}
		return err
	}
	return c
}

func printMonitor(c *cobra.Command, s *monitor.Status) {
	p := colours(c.OutOrStdout())
	say(c, false, "%s has %d entries; %d are audited, and gave %d alerts", s.Origin, s.Size, s.Audited, s.Alerts)
	if s.Forked {
		say(c, false, "%sthe log has forked and is followed no further%s", p.bad, p.reset)
	}
	for _, code := range slices.Sorted(maps.Keys(s.Troubles)) {
		say(c, false, "%s%s since %s%s", p.bad, code, s.Troubles[code].Format(timeLayout), p.reset)
	}
	for _, r := range s.Releases {
		outcome, said := string(r.Outcome), ""
		switch {
		case r.Outcome == "":
			outcome = "not rebuilt yet"
		case r.Published == nil:
			said = ", not in the log yet"
		default:
			said = fmt.Sprintf(", said in entry %d", *r.Published)
		}
		if !r.Retry.IsZero() {
			said += ", tried again after " + r.Retry.Format(timeLayout)
		}
		say(c, false, "%6d  %-12s %s%s", r.Index, r.Version, outcome, said)
	}
}

func newMonitorAlerts() *cobra.Command {
	c := &cobra.Command{
		Use:   "alerts [CODE]",
		Short: "List every kind of alert, what it means and what to do",
		Long: `List the closed list of codes with which a monitor alerts. With a code, or the
beginning of one, only those. The alerts that a monitor raised are in alerts.jsonl
in its folder.`,
		Example: `  vitrine monitor alerts monitor/not-reproduced`,
		Args:    arguments,
	}
	asJSON := jsonFlag(c)
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var codes []string
		for _, info := range monitor.Codes() {
			if len(args) == 0 {
				codes = append(codes, string(info.Code))
			}
		}
		return codes, cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		codes := monitor.Codes()
		if len(args) == 1 {
			codes = slices.DeleteFunc(codes, func(info monitor.CodeInfo) bool { return !strings.HasPrefix(string(info.Code), args[0]) })
		}
		if len(codes) == 0 {
			return fmt.Errorf("no code begins with %q; see them all with: vitrine monitor alerts", args[0])
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"alerts": codes})
		}
		p := colours(c.OutOrStdout())
		for _, info := range codes {
			say(c, false, "%s%s%s\n  %s\n  %s→ %s%s", p.bold, info.Code, p.reset, info.Cause, p.dim, info.Mend, p.reset)
		}
		return nil
	}
	return c
}
