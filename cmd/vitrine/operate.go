package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/witness"
)

// maxTlogPolicyBytes bounds a tlog-policy file: 32 witnesses and groups.
const maxTlogPolicyBytes = 64 << 10

// listen opens a TCP listener and announces it on stdout, so that whoever asked
// for port 0 learns which it became.
func listen(c *cobra.Command, address string, asJSON bool, key string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(c.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	url := "http://" + ln.Addr().String()
	if asJSON {
		return ln, printJSON(c.OutOrStdout(), map[string]string{"url": url, "key": key})
	}
	say(c, false, "%s serves at %s", c.CommandPath(), url)
	return ln, nil
}

func serverLogger(c *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
}

func newLog() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Run a transparency log"}
	c.AddCommand(newLogServe())
	return c
}

func newLogServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve a log from a folder",
		Long: `Serve a transparency log (Tessera, C2SP tlog-tiles) from a folder.

The tlog-policy names the log and the witnesses, each with a URL, that must
cosign a checkpoint before the log hands out a receipt. The admission file says
who may write what (docs/formats.md). Everything that readers need is static
files below the folder, which any web server or CDN can serve as well.`,
		Example: `  vitrine log serve --dir log --key log.key --policy tlog.policy --admission admission.yaml`,
		Args:    cobra.NoArgs,
	}
	dir := c.Flags().String("dir", "", "the log's `FOLDER`, made if needed")
	key := c.Flags().String("key", "", "the log's key `FILE` (vitrine keygen --log)")
	policy := c.Flags().String("policy", "", "tlog-policy `FILE` with the log and its witnesses")
	admission := c.Flags().String("admission", "", "admission `FILE`")
	address := c.Flags().String("listen", "127.0.0.1:8420", "`ADDRESS` to serve at")
	republish := c.Flags().Duration("republish", time.Minute, "have an idle log cosigned anew after this long")
	interval := c.Flags().Duration("checkpoint-interval", time.Second, "least time between two checkpoints")
	receiptTimeout := c.Flags().Duration("receipt-timeout", 10*time.Second, "how long a writer waits for the quorum")
	asJSON := jsonFlag(c)
	require(c, "dir", "key", "policy", "admission")
	c.RunE = func(c *cobra.Command, _ []string) error {
		tlogPolicy, err := readTlogPolicy(*policy)
		if err != nil {
			return err
		}
		text, err := readFile(*admission, maxTlogPolicyBytes)
		if err != nil {
			return err
		}
		writers, err := log.ParseAdmission(*admission, text)
		if err != nil {
			return err
		}
		skey, err := readFile(*key, maxKeyBytes)
		if err != nil {
			return err
		}
		signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
		if err != nil {
			return fmt.Errorf("%s is not a log's key (%w); make one with: vitrine keygen --log NAME", *key, err)
		}
		l, err := log.Open(c.Context(), log.Config{
			Dir: *dir, Signer: signer, Policy: tlogPolicy, Admission: writers,
			RepublishInterval: *republish, CheckpointInterval: *interval, ReceiptTimeout: *receiptTimeout,
			Logger: serverLogger(c),
		})
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(c.Context()))
		ln, err := listen(c, *address, *asJSON, tlogPolicy.LogVerifierKey())
		if err != nil {
			return err
		}
		return l.Serve(c.Context(), ln)
	}
	return c
}

func readTlogPolicy(path string) (*receipt.Policy, error) {
	text, err := readFile(path, maxTlogPolicyBytes)
	if err != nil {
		return nil, err
	}
	p, err := receipt.ParsePolicy(string(text), false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func newWitness() *cobra.Command {
	c := &cobra.Command{Use: "witness", Short: "Run a witness"}
	c.AddCommand(newWitnessServe())
	return c
}

func newWitnessServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Cosign the checkpoints of logs, each only if it extends the last",
		Long: `Serve a witness (C2SP tlog-witness). It cosigns a checkpoint only if it extends
the last one that it cosigned for that log, which it remembers in its folder. A
folder that was lost or put back from a backup breaks that promise: make a new
key then.`,
		Example: `  vitrine witness serve --dir witness --key witness.key --log "$(cat log.vkey)"`,
		Args:    cobra.NoArgs,
	}
	dir := c.Flags().String("dir", "", "the witness's `FOLDER`, made if needed")
	key := c.Flags().String("key", "", "the witness's key `FILE` (vitrine keygen --witness)")
	logs := c.Flags().StringArray("log", nil, "`VKEY` of a log to cosign; may be repeated")
	address := c.Flags().String("listen", "127.0.0.1:8421", "`ADDRESS` to serve at")
	asJSON := jsonFlag(c)
	require(c, "dir", "key", "log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		name, private, err := readNoteKey(*key)
		if err != nil {
			return err
		}
		w, err := witness.Open(*dir, witness.Config{Name: name, Key: private, Logs: *logs, Logger: serverLogger(c)})
		if err != nil {
			return err
		}
		defer w.Close()
		ln, err := listen(c, *address, *asJSON, w.VerifierKey())
		if err != nil {
			return err
		}
		return w.Serve(c.Context(), ln)
	}
	return c
}

func require(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err) // a name that is not a flag's: a mistake in this package
		}
	}
}
