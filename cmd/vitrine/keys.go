package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/torchwood"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// maxKeyBytes bounds a key file; the longest is a P-256 key in PEM.
const maxKeyBytes = 4 << 10

func newKeygen() *cobra.Command {
	c := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a key: for statements, for a log, or for a witness",
		Long: `Make a key pair and write it beside each other, never over an existing file.

Without a flag: an Ed25519 key that signs statements (publisher, rebuilder,
channel, withdrawer): NAME.key (PKCS #8, keep it secret) and NAME.pub, which
goes into policies and admission files.

With --log or --witness: NAME.key (a note signer key, keep it secret) and
NAME.vkey, which goes into a tlog-policy. KEYNAME is a name that is yours to
give, by convention a host and path without scheme.`,
		Example: `  vitrine keygen publisher
  vitrine keygen --log example.com/log log
  vitrine keygen --witness witness.example.org witness`,
		Args: cobra.ExactArgs(1),
	}
	logName := c.Flags().String("log", "", "make a log's key with this `KEYNAME`, which is also the log's origin")
	witnessName := c.Flags().String("witness", "", "make a witness's key with this `KEYNAME`")
	chip := c.Flags().Bool("simulated-chip", false, "make a chip that does not exist, for vitrine node simulate: NAME.key, and NAME.pem, its throw-away root")
	asJSON := jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("log", "witness", "simulated-chip")
	c.RunE = func(c *cobra.Command, args []string) error {
		pair, err := makeKey(*logName, *witnessName)
		if *chip {
			pair, err = makeChip()
		}
		if err != nil {
			return fmt.Errorf("making a key: %w", err)
		}
		private, public := args[0]+".key", args[0]+pair.publicSuffix
		if err := writeNew(private, pair.private, 0o600); err != nil {
			return err
		}
		if err := writeNew(public, pair.public, 0o644); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"private": private, "public": public, "key": strings.TrimSpace(string(pair.public))})
		}
		say(c, false, "%s  (secret)\n%s", private, public)
		return nil
	}
	return c
}

type keyPair struct {
	private, public []byte
	publicSuffix    string
}

func makeKey(logName, witnessName string) (*keyPair, error) {
	if logName == "" && witnessName == "" {
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
		return &keyPair{private, public.PEM(), ".pub"}, nil
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, logName+witnessName)
	if err != nil {
		return nil, err
	}
	if witnessName != "" {
		// The same key under the algorithm of timestamped cosignatures.
		name, key, err := parseNoteKey(skey)
		if err != nil {
			return nil, err
		}
		signer, err := torchwood.NewCosignatureSigner(name, key)
		if err != nil {
			return nil, err
		}
		vkey = signer.Verifier().String()
	}
	return &keyPair{[]byte(skey + "\n"), []byte(vkey + "\n"), ".vkey"}, nil
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
	return &keyPair{private, amd.RootPEM(), ".pem"}, nil
}

// parseNoteKey reads the signer key text of golang.org/x/mod/sumdb/note:
// PRIVATE+KEY+name+hash+base64(0x01 || Ed25519 seed).
func parseNoteKey(skey string) (name string, key ed25519.PrivateKey, err error) {
	// The package checks the form and the hash; it just does not give the key.
	if _, err := note.NewSigner(skey); err != nil {
		return "", nil, err
	}
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", nil, errors.New("malformed signer key")
	}
	b, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(b) != 1+ed25519.SeedSize {
		return "", nil, errors.New("malformed signer key")
	}
	return parts[2], ed25519.NewKeyFromSeed(b[1:]), nil
}

func readNoteKey(path string) (name string, key ed25519.PrivateKey, err error) {
	text, err := readFile(path, maxKeyBytes)
	if err != nil {
		return "", nil, err
	}
	name, key, err = parseNoteKey(strings.TrimSpace(string(text)))
	if err != nil {
		return "", nil, fmt.Errorf("%s is not a log's or witness's key (%w); make one with: vitrine keygen --log NAME", path, err)
	}
	return name, key, nil
}

func readPrivateKey(path string) (crypto.Signer, error) {
	text, err := readFile(path, maxKeyBytes)
	if err != nil {
		return nil, err
	}
	signer, err := statement.ParsePrivateKeyPEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; make a key with: vitrine keygen NAME", path, err)
	}
	return signer, nil
}

// readFile reads a file of at most max bytes.
func readFile(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s has more than %d bytes, the most that such a file may have", path, max)
	}
	return b, nil
}

// writeNew writes a file that must not exist yet, durably, or leaves nothing.
func writeNew(path string, data []byte, perm fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; choose another name or move it away", path)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}
