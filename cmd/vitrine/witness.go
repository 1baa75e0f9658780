package main

import (
	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log/witness"
)

func newWitness() *cobra.Command {
	return noun("witness", "Run a witness", newWitnessServe())
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
		Args:    arguments,
	}
	dir := c.Flags().String("dir", "", "the witness's `FOLDER`, made if needed")
	key := c.Flags().String("key", "", "the witness's key `FILE` (vitrine keygen --witness)")
	logs := c.Flags().StringArray("log", nil, "`VKEY` of a log to cosign; may be repeated")
	address := c.Flags().String("listen", "127.0.0.1:8421", "`ADDRESS` to serve at")
	asJSON := jsonFlag(c)
	require(c, "dir", "key", "log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		name, _, private, err := readNoteKey(*key, "witness")
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
