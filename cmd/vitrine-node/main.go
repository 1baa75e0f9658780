// Command vitrine-node is the node that goes into images: it shows evidence
// from the hardware that it runs on, and forwards requests to the inference
// server beside it.
//
// It takes no arguments. Its configuration is one file of the measured image,
// /etc/vitrine/node.json:
//
//	{"upstream":   "http://127.0.0.1:8000",
//	 "listen":     ":8443",
//	 "pushListen": ":8480",
//	 "platform":   "auto"}
//
// where platform is "tpm", "sev-snp" or "auto", which takes SEV-SNP if the
// machine has it. A configuration that comes by any other way (an argument, the
// environment, a register that the host sets at launch) is refused: it would
// not be part of what a release measures.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/vitrine-dev/vitrine/node"
)

// configFile is where the image holds the node's configuration.
const configFile = "/etc/vitrine/node.json"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), configFile, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vitrine-node: %v\n", err)
		os.Exit(2)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, args, environ []string, file string, console io.Writer) error {
	if err := refuseOutside(args, environ); err != nil {
		return err
	}
	c, err := readConfig(file)
	if err != nil {
		return err
	}
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return fmt.Errorf("%s: upstream: %w", file, err)
	}
	attester, err := openAttester(c.Platform)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(console, nil))
	n, err := node.New(ctx, node.Config{Attester: attester, Upstream: upstream, Logger: logger})
	if err != nil {
		return err
	}
	public, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%s: listen: %w", file, err)
	}
	push, err := net.Listen("tcp", c.PushListen)
	if err != nil {
		_ = public.Close()
		return fmt.Errorf("%s: pushListen: %w", file, err)
	}
	logger.Info("serving", "platform", attester.Platform(), "listen", public.Addr().String(), "push", push.Addr().String())
	return n.Serve(ctx, public, push)
}

// refuseOutside refuses what could configure the node and is not in its image.
// GODEBUG is named because it changes how the Go library does TLS; the kernel
// hands each unknown word of its command line to init as a variable.
func refuseOutside(args, environ []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%d arguments were given; the node takes none: put its configuration into %s of the image", len(args), configFile)
	}
	i := slices.IndexFunc(environ, func(variable string) bool {
		return strings.HasPrefix(variable, "VITRINE_") || strings.HasPrefix(variable, "GODEBUG=")
	})
	if i >= 0 {
		name, _, _ := strings.Cut(environ[i], "=")
		return fmt.Errorf("the environment holds %s; the node takes no configuration from there: unset it, and put its configuration into %s of the image", name, configFile)
	}
	return nil
}

// openAttester opens the hardware that the configuration names.
func openAttester(platform string) (node.Attester, error) {
	snp := func() (node.Attester, error) { return node.OpenSNP() }
	tpm := func() (node.Attester, error) { return node.OpenTPM(node.TPMDevice, node.TPMEventLog) }
	switch platform {
	case node.PlatformSNP:
		return snp()
	case node.PlatformTPM:
		return tpm()
	}
	attester, noSNP := snp()
	if noSNP == nil {
		return attester, nil
	}
	attester, noTPM := tpm()
	if noTPM == nil {
		return attester, nil
	}
	return nil, fmt.Errorf("this machine has no hardware that can vouch for it: sev-snp: %w; tpm: %w", noSNP, noTPM)
}
