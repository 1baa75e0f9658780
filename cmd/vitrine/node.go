package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	firmware "github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/log/staple"
	"github.com/vitrine-dev/vitrine/monitor"
	"github.com/vitrine-dev/vitrine/node"
	machine "github.com/vitrine-dev/vitrine/node/simulated"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// maxChipBytes bounds a simulated chip's file: three certificates and a key.
const maxChipBytes = 64 << 10

func newNode() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Run a node without confidential hardware, to try things out"}
	c.AddCommand(newNodeSimulate())
	return c
}

func newNodeSimulate() *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate IMAGE",
		Short: "Serve evidence of the image in the folder IMAGE under a throw-away root",
		Long: `Run the node over simulated hardware: it measures kernel, initrd and command line
of IMAGE itself, over a generated firmware, as an AMD SEV-SNP processor would, and
signs reports with a chip that exists in a file (vitrine keygen --simulated-chip).

It proves nothing: whoever has that file can sign anything. A verifier refuses it
unless the policy names its root, and then says: measured, not confidential.`,
		Args: cobra.ExactArgs(1),
	}
	chip := c.Flags().String("chip", "", "`FILE` of the simulated chip")
	firmwareFile := c.Flags().String("firmware", "", "firmware `FILE` (default: the generated one)")
	vcpus := c.Flags().Int("vcpus", 1, "`NUMBER` of vCPUs")
	vcpuType := c.Flags().String("vcpu-type", "EPYC-v4", "QEMU's `NAME` of the CPU model")
	upstream := c.Flags().String("upstream", "", "`URL` of the inference server, on loopback")
	address := c.Flags().String("listen", "127.0.0.1:8443", "`ADDRESS` for clients")
	pushAddress := c.Flags().String("push-listen", "127.0.0.1:8480", "`ADDRESS` for vitrine staple")
	asJSON := jsonFlag(c)
	require(c, "chip", "upstream")
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := readFile(*chip, maxChipBytes)
		if err != nil {
			return err
		}
		amd, err := simulated.ParseAMD(text)
		if err != nil {
			return fmt.Errorf("%s: %w", *chip, err)
		}
		if *firmwareFile == "" {
			dir, err := os.MkdirTemp("", "vitrine-firmware-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			*firmwareFile = filepath.Join(dir, "firmware.fd")
			if err := os.WriteFile(*firmwareFile, firmware.Firmware(), 0o600); err != nil {
				return err
			}
		}
		attester, err := machine.Open(amd, machine.Machine{
			Firmware: *firmwareFile,
			Kernel:   filepath.Join(args[0], "vmlinuz"), Initrd: filepath.Join(args[0], "initrd.cpio"), Cmdline: filepath.Join(args[0], "cmdline"),
			VCPUs: *vcpus, VCPUType: *vcpuType,
		})
		if err != nil {
			return err
		}
		u, err := url.Parse(*upstream)
		if err != nil {
			return err
		}
		n, err := node.New(c.Context(), node.Config{Attester: attester, Upstream: u, Logger: serverLogger(c)})
		if err != nil {
			return err
		}
		return serveNode(c, n, *address, *pushAddress, *asJSON)
	}
	return c
}

func serveNode(c *cobra.Command, n *node.Node, address, pushAddress string, asJSON bool) error {
	var config net.ListenConfig
	public, err := config.Listen(c.Context(), "tcp", address)
	if err != nil {
		return err
	}
	push, err := config.Listen(c.Context(), "tcp", pushAddress)
	if err != nil {
		public.Close()
		return err
	}
	urls := map[string]string{"url": "https://" + public.Addr().String(), "push": "http://" + push.Addr().String()}
	if asJSON {
		if err := printJSON(c.OutOrStdout(), urls); err != nil {
			return err
		}
	} else {
		say(c, false, "simulated node for clients at %s, for vitrine staple at %s", urls["url"], urls["push"])
	}
	return n.Serve(c.Context(), public, push)
}

func newStaple() *cobra.Command {
	c := &cobra.Command{
		Use:   "staple NODE STATEMENT...",
		Short: "Bring a node the proofs it shows: the sidecar",
		Long: `Push the transparent statement of the release that the node runs to the node's push
port NODE (http://HOST:PORT), with newer receipts, the newest witnessed checkpoint,
and what the log says about that release: rebuilds, the channel, withdrawals. The
files are rewritten when there is a newer receipt. The node never dials out; this
sidecar holds no key, and nothing it brings is believed for its sake.`,
		Args: cobra.MinimumNArgs(2),
	}
	l := addLogFlags(c)
	once := c.Flags().Bool("once", false, "push once and end")
	interval := c.Flags().Duration("interval", time.Minute, "time between two pushes")
	channel := c.Flags().String("channel", "", "`NAME` of the channel to bring (default: any that lists the release)")
	c.RunE = func(c *cobra.Command, args []string) error {
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

func newMonitor() *cobra.Command {
	c := &cobra.Command{Use: "monitor", Short: "Watch a log and rebuild what it releases"}
	c.AddCommand(newMonitorRun())
	return c
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
