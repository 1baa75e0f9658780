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

// errUnasked is returned by a command that could not ask, and has printed why.
var errUnasked = errors.New("the question could not be asked")

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd, err := newRoot().ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitYes
	case errors.Is(err, errNo):
		return exitNo
	case errors.Is(err, errUnasked):
		return exitFailure
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.CommandPath(), err)
	return exitFailure
}

func newRoot() *cobra.Command {
	root := noun("vitrine", "A transparency log and reproducible-build verifier for inference images")
	root.Long = `Vitrine publishes what a private inference server runs, and checks it.

A release engineer builds an image bit for bit, predicts what hardware will
measure of it, and publishes both in an append-only log. A node hands the proof
over with its attestation; a client checks it before it sends a byte; monitors
rebuild every release from source.

Start with:  vitrine demo

Exit status 0 means yes, 1 that the answer is no (refused, mismatch, alert), 2 that
the question could not be asked (usage, I/O). A file named - is standard input.`
	root.Version = version()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = checkFlags
	root.SetFlagErrorFunc(usageError)
	root.AddGroup(
		&cobra.Group{ID: "client", Title: "For those who use a service:"},
		&cobra.Group{ID: "release", Title: "For those who publish images:"},
		&cobra.Group{ID: "operate", Title: "For those who run a log, a witness, a monitor or a node:"},
		&cobra.Group{ID: "tool", Title: "About this program:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		"client":  {newDemo(), newVerify(), newChat(), newRejections(), newPolicy()},
		"release": {newKeygen(), newKey(), newLock(), newBuild(), newMeasure(), newPublish(), newRebuild(), newChannel(), newWithdraw()},
		"operate": {newLog(), newWitness(), newMonitor(), newNode(), newStaple()},
		"tool":    {newVersion(), newMan()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID("tool")
	root.SetCompletionCommandGroupID("tool")
	return root
}
