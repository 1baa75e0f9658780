package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	firmware "github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/node"
	machine "github.com/vitrine-dev/vitrine/node/simulated"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// maxChipBytes bounds a simulated chip's file: three certificates and a key.
const maxChipBytes = 64 << 10

func newNode() *cobra.Command {
	return noun("node", "Run a node without confidential hardware, to try things out", newNodeSimulate())
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
		Example: `  vitrine keygen --simulated-chip chip
  vitrine node simulate image --chip chip.key --upstream http://127.0.0.1:8000`,
		Args: arguments,
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
			return fmt.Errorf("%s: %w, with: vitrine keygen --simulated-chip NAME", fileName(*chip), err)
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
