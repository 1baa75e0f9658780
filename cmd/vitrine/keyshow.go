package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"

	"filippo.io/torchwood"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log/statement"
)

func newKey() *cobra.Command {
	return noun("key", "Look at a key", newKeyShow())
}

func newKeyShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "Say what a key file holds, and print its public part",
		Long: `Say what a key file holds, secret or public, and print the public part as it goes
into policies and admission files, or into tlog-policies. Of a key that signs
statements the SHA-256 is shown too, by which vitrine log list names a signer.

The secret key of a log and that of a witness look the same: both public forms are
printed.`,
		Example: `  vitrine key show publisher.pub
  vitrine key show publisher.key > publisher.pub`,
		Args: arguments,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := readFile(args[0], maxKeyBytes)
		if err != nil {
			return err
		}
		k, err := describeKey(args[0], text)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), k)
		}
		fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", fileName(args[0]), k.words())
		for _, public := range k.Public {
			say(c, false, "%s", public)
		}
		return nil
	}
	return c
}

// shownKey is what key show answers.
type shownKey struct {
	Kind   string   `json:"kind"` // as kindOfKey says it
	Secret bool     `json:"secret"`
	Name   string   `json:"name,omitempty"`   // of a log or witness
	SHA256 string   `json:"sha256,omitempty"` // of the SubjectPublicKeyInfo of a key that signs statements
	Public []string `json:"public"`           // its public forms
}

func (k *shownKey) words() string {
	switch {
	case k.Name != "":
		return k.Kind + ", " + k.Name
	case k.SHA256 != "":
		return k.Kind + ", SHA-256 " + k.SHA256
	}
	return k.Kind
}

func describeKey(path string, text []byte) (*shownKey, error) {
	trimmed := strings.TrimSpace(string(text))
	k := &shownKey{Kind: kindOfKey(text)}
	switch {
	case strings.HasPrefix(trimmed, noteKeyPrefix):
		name, key, err := parseNoteKey(trimmed)
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w", fileName(path), err)
		}
		asLog, err := note.NewEd25519VerifierKey(name, key.Public().(ed25519.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileName(path), err)
		}
		asWitness, err := torchwood.NewCosignatureSigner(name, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileName(path), err)
		}
		k.Secret, k.Name, k.Public = true, name, []string{asLog, asWitness.Verifier().String()}
		return k, nil
	case strings.HasPrefix(trimmed, privateKeyPrefix):
		signer, err := statement.ParsePrivateKeyPEM(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileName(path), err)
		}
		public, err := statement.NewPublicKey(signer.Public())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileName(path), err)
		}
		k.Secret = true
		return k.of(public), nil
	case strings.HasPrefix(trimmed, publicKeyPrefix):
		public, err := statement.ParsePublicKeyPEM(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileName(path), err)
		}
		return k.of(public), nil
	}
	// A log's vkey or a witness's, which torchwood alone knows.
	if v, err := torchwood.NewCosignatureVerifier(trimmed); err == nil {
		k.Kind, k.Name, k.Public = "the public key of a witness", v.Name(), []string{trimmed}
		return k, nil
	}
	if v, err := note.NewVerifier(trimmed); err == nil {
		k.Kind, k.Name, k.Public = "the public key of a log", v.Name(), []string{trimmed}
		return k, nil
	}
	return nil, fmt.Errorf("%s holds no key that vitrine keygen makes", fileName(path))
}

func (k *shownKey) of(public *statement.PublicKey) *shownKey {
	hint := public.Hint()
	k.SHA256, k.Public = hex.EncodeToString(hint[:]), []string{string(bytes.TrimSpace(public.PEM()))}
	return k
}
