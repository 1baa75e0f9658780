// Command vitrine builds, publishes, verifies and rebuilds inference images
// whose measurements stand in a transparency log.
//
// The commands are thin: each parses flags, calls one function of a library
// and prints what came back. Results go to stdout, everything else to stderr.
// Exit status 0 means yes, 1 means that the answer is no (refused, mismatch,
// alert), and 2 that the question could not be asked (usage, I/O).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

const (
	exitYes     = 0
	exitNo      = 1
	exitFailure = 2
)

// errNo is returned by a command whose answer, already printed, is no.
var errNo = errors.New("the answer is no")

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitYes
	case errors.Is(err, errNo):
		return exitNo
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.CommandPath(), err)
	return exitFailure
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "vitrine",
		Short: "A transparency log and reproducible-build verifier for inference images",
		Long: `Vitrine publishes what a private inference server runs, and checks it.

A release engineer builds an image bit for bit, predicts what hardware will
measure of it, and publishes both in an append-only log. A node hands the proof
over with its attestation; a client checks it before it sends a byte; monitors
rebuild every release from source.

Start with:  vitrine demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.AddGroup(
		&cobra.Group{ID: "client", Title: "For those who use a service:"},
		&cobra.Group{ID: "release", Title: "For those who publish images:"},
		&cobra.Group{ID: "operate", Title: "For those who run a log, a witness, a monitor or a node:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		"client":  {newDemo(), newVerify(), newChat(), newRejections(), newPolicy()},
		"release": {newKeygen(), newLock(), newBuild(), newMeasure(), newPublish(), newRebuild(), newChannel(), newWithdraw()},
		"operate": {newLog(), newWitness(), newMonitor(), newNode(), newStaple()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	return root
}
