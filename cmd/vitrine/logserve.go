package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
)

func newLog() *cobra.Command {
	return noun("log", "Run a transparency log, or read one", newLogServe(), newLogList())
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
		Args:    arguments,
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
		if err := positive(c, "republish", "checkpoint-interval", "receipt-timeout"); err != nil {
			return err
		}
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
		_, skey, _, err := readNoteKey(*key, "log")
		if err != nil {
			return err
		}
		signer, err := note.NewSigner(skey)
		if err != nil {
			return err
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
