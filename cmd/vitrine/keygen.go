package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"filippo.io/torchwood"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

func newKeygen() *cobra.Command {
	c := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a key: for statements, for a log, or for a witness",
		Long: `Make a key pair and write its two files beside each other, never over an existing
one.

Without a flag: an Ed25519 key that signs statements (publisher, rebuilder,
channel, withdrawer): NAME.key (PKCS #8, keep it secret) and NAME.pub, which
goes into policies and admission files.

With --log or --witness: NAME.key (a note signer key, keep it secret) and
NAME.vkey, which goes into a tlog-policy. KEYNAME is a name that is yours to
give, by convention a host and path without scheme.`,
		Example: `  vitrine keygen publisher
  vitrine keygen --log example.com/log log
  vitrine keygen --witness witness.example.org witness`,
		Args: arguments,
	}
	logName := c.Flags().String("log", "", "make a log's key with this `KEYNAME`, which is also the log's origin")
	witnessName := c.Flags().String("witness", "", "make a witness's key with this `KEYNAME`")
	chip := c.Flags().Bool("simulated-chip", false, "make a chip that does not exist, for vitrine node simulate: NAME.key, and NAME.pem, its throw-away root")
	asJSON := jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("log", "witness", "simulated-chip")
	c.RunE = func(c *cobra.Command, args []string) error {
		var pair *keyPair
		var err error
		switch {
		case args[0] == "" || strings.HasSuffix(args[0], "/"):
			return errors.New("NAME is what the files are called before the dot; give one such as publisher")
		case *chip:
			pair, err = makeChip()
		case c.Flags().Changed("log"):
			pair, err = makeLogKey(*logName)
		case c.Flags().Changed("witness"):
			pair, err = makeWitnessKey(*witnessName)
		default:
			pair, err = makeStatementKey()
		}
		if err != nil {
			return fmt.Errorf("making a key: %w", err)
		}
		private, public := args[0]+".key", args[0]+pair.publicSuffix
		if err := writeNew(newFile{private, pair.private, 0o600}, newFile{public, pair.public, 0o644}); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"private": private, "public": public, "key": strings.TrimSpace(string(pair.public))})
		}
		width := max(len(private), len(public))
		say(c, false, "%-*s  keep it secret: %s", width, private, pair.does)
		say(c, false, "%-*s  %s", width, public, pair.goes)
		return nil
	}
	return c
}

type keyPair struct {
	private, public []byte
	publicSuffix    string
	does, goes      string // what the private key does, and where the public one goes
}

func makeStatementKey() (*keyPair, error) {
	signer, err := statement.NewPrivateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := statement.MarshalPrivateKeyPEM(signer)
	if err != nil {
		return nil, err
	}
	public, err := statement.NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return &keyPair{private, public.PEM(), ".pub", "it signs statements", "goes into policies and admission files"}, nil
}

func makeLogKey(name string) (*keyPair, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	if err := readable(name, "log "+vkey+"\nquorum none\n", true); err != nil {
		return nil, err
	}
	return &keyPair{[]byte(skey + "\n"), []byte(vkey + "\n"), ".vkey", "it signs a log's checkpoints", "goes into tlog-policies, after \"log\""}, nil
}

func makeWitnessKey(name string) (*keyPair, error) {
	skey, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	_, key, err := parseNoteKey(skey)
	if err != nil {
		return nil, unreadable(name)
	}
	// The same key under the algorithm of timestamped cosignatures.
	signer, err := torchwood.NewCosignatureSigner(name, key)
	if err != nil {
		return nil, unreadable(name)
	}
	vkey := signer.Verifier().String()
	_, logKey, err := note.GenerateKey(rand.Reader, "log.example")
	if err != nil {
		return nil, err
	}
	if err := readable(name, "log "+logKey+"\nwitness w "+vkey+"\nquorum w\n", false); err != nil {
		return nil, err
	}
	return &keyPair{[]byte(skey + "\n"), []byte(vkey + "\n"), ".vkey", "it cosigns checkpoints", "goes into tlog-policies, after \"witness\" and a name"}, nil
}

// readable checks that a new key can be read out of a tlog-policy: the name
// makes the difference.
func readable(name, policy string, unwitnessed bool) error {
	if _, err := receipt.ParsePolicy(policy, unwitnessed); err != nil {
		return unreadable(name)
	}
	return nil
}

func unreadable(name string) error {
	return fmt.Errorf("%q cannot be a key's name, since no tlog-policy could hold it; give one such as example.com/log, without blanks and plus signs", name)
}

// makeChip makes a simulated AMD chip and shows its root.
func makeChip() (*keyPair, error) {
	amd, err := simulated.NewAMD(timeNow())
	if err != nil {
		return nil, err
	}
	private, err := amd.PEM()
	if err != nil {
		return nil, err
	}
	return &keyPair{private, amd.RootPEM(), ".pem", "it signs reports of no hardware", "goes into policies, under simulatedRoots"}, nil
}
