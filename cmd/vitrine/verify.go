package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/verifier"
)

// clientFlags are those of the commands that judge a node.
type clientFlags struct {
	policy  *string
	state   *string
	noState *bool
}

func addClientFlags(c *cobra.Command) clientFlags {
	f := clientFlags{
		policy:  c.Flags().String("policy", "", "policy `FILE`"),
		state:   c.Flags().String("state", "", "`FOLDER` of what was seen before (default: in the user's configuration folder)"),
		noState: c.Flags().Bool("no-state", false, "remember nothing, and so notice neither a fork nor a step back in time"),
	}
	require(c, "policy")
	c.MarkFlagsMutuallyExclusive("state", "no-state")
	return f
}

func (f clientFlags) options() (verifier.Options, error) {
	var o verifier.Options
	var err error
	if o.Policy, err = readPolicy(*f.policy); err != nil {
		return o, err
	}
	if *f.noState {
		return o, nil
	}
	dir := *f.state
	if dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return o, fmt.Errorf("finding a folder to remember in: %w; name one with --state", err)
		}
		dir = filepath.Join(config, "vitrine", "seen")
	}
	o.State, err = verifier.OpenDir(dir)
	return o, err
}

func newVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify URL|FILE",
		Short: "Check what runs behind a URL, or replay a recorded check",
		Long: `Ask the node at URL for evidence, check it against the policy, and print the
verdict check by check. With --save, evidence, nonce, key and time are kept in a
file; giving that file and --at replays the verdict without a network. A replay is
marked HISTORICAL and opens no connection.

Exit status 0: the policy accepts the node. 1: it does not. 2: nobody could ask.`,
		Example: `  vitrine verify https://inference.example.com --policy policy.yaml --save report.json
  vitrine verify report.json --policy policy.yaml --at 2026-11-25T12:00:00Z`,
		Args: arguments,
	}
	f := addClientFlags(c)
	save := c.Flags().String("save", "", "keep what was seen in this `FILE`")
	at := c.Flags().String("at", "", "replay FILE at this `TIME` (RFC 3339)")
	dated := c.Flags().Bool("dated", false, "ask without a nonce: the evidence is dated by a witnessed checkpoint instead")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := f.options()
		if err != nil {
			return err
		}
		var v *verifier.Verdict
		switch asked := strings.Contains(args[0], "://"); {
		case asked && *at != "":
			return errors.New("--at replays a file; a node is judged now")
		case asked:
			v, err = verifyNode(c.Context(), args[0], opts, *dated, *save)
		case *save != "":
			return fmt.Errorf("--save keeps what a node said; %s is kept already", fileName(args[0]))
		case *dated:
			return fmt.Errorf("--dated asks a node without a nonce; %s says itself how it was asked", fileName(args[0]))
		default:
			v, err = replay(c.Context(), args[0], opts, *at)
		}
		return printVerdict(c, v, err, *asJSON)
	}
	return c
}

func verifyNode(ctx context.Context, url string, opts verifier.Options, dated bool, save string) (*verifier.Verdict, error) {
	r, err := verifier.Fetch(ctx, url, verifier.FetchOptions{Dated: dated})
	if err != nil {
		return refusedEarly(err, verifier.Verdict{Policy: opts.Policy.Name, Time: timeNow()})
	}
	if save != "" {
		b, err := r.Marshal()
		if err != nil {
			return nil, err
		}
		if err := replaceFile(save, b); err != nil {
			return nil, err
		}
	}
	in, err := r.Input()
	if err != nil {
		return refusedEarly(err, verifier.Verdict{Policy: opts.Policy.Name, Time: timeNow()})
	}
	return verifier.Appraise(ctx, in, opts)
}

func replay(ctx context.Context, path string, opts verifier.Options, at string) (*verifier.Verdict, error) {
	b, err := readFile(path, verifier.MaxRecordingBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; to ask a node, give https://HOST:PORT", err)
	}
	if err != nil {
		return nil, err
	}
	if at == "" {
		return nil, fmt.Errorf("%s is a file; say with --at at which time to judge it", fileName(path))
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return nil, fmt.Errorf("--at %s is not a time such as 2026-11-25T12:00:00Z", at)
	}
	r, err := verifier.ParseRecording(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileName(path), err)
	}
	// A node whose document cannot be read is refused. A file that holds one is
	// just a file that cannot be read: there is nothing to give a verdict on.
	if _, err := r.Input(); err != nil {
		return nil, fmt.Errorf("%s: /document: %v; give a file that verify --save wrote of a node that was not refused for this", fileName(path), err)
	}
	return verifier.Replay(ctx, r, t, opts)
}
