package main

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// maxKeyBytes bounds a key file; the longest is a P-256 key in PEM.
const maxKeyBytes = 4 << 10

// What the files that vitrine keygen writes begin with.
const (
	noteKeyPrefix    = "PRIVATE+KEY+"
	privateKeyPrefix = "-----BEGIN PRIVATE KEY-----"
	publicKeyPrefix  = "-----BEGIN PUBLIC KEY-----"
)

// kindOfKey says in a phrase what a key file is that was given in place of
// another.
func kindOfKey(text []byte) string {
	text = bytes.TrimSpace(text)
	for _, kind := range []struct{ prefix, is string }{
		{noteKeyPrefix, "the key of a log or witness"},
		{privateKeyPrefix, "a key that signs statements"},
		{publicKeyPrefix, "a public key"},
		{"-----BEGIN ", "some other PEM file"},
	} {
		if bytes.HasPrefix(text, []byte(kind.prefix)) {
			return kind.is
		}
	}
	if _, err := torchwood.NewCosignatureVerifier(string(text)); err == nil {
		return "the public key of a witness"
	}
	if _, err := note.NewVerifier(string(text)); err == nil {
		return "the public key of a log"
	}
	return ""
}

// notThe says what a key file is in place of the wanted kind, and how to make
// that.
func notThe(wanted, path string, text []byte, keygen string) error {
	is := kindOfKey(text)
	if is == "" {
		return fmt.Errorf("%s holds no key; make %s with: %s", fileName(path), wanted, keygen)
	}
	return fmt.Errorf("%s is %s, not %s; make that with: %s", fileName(path), is, wanted, keygen)
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

// readNoteKey reads the secret key of a log or of a witness; the two look the
// same, and flag is how vitrine keygen makes the one that is wanted.
func readNoteKey(path, flag string) (name string, skey string, key ed25519.PrivateKey, err error) {
	text, err := readFile(path, maxKeyBytes)
	if err != nil {
		return "", "", nil, err
	}
	if !bytes.HasPrefix(text, []byte(noteKeyPrefix)) {
		return "", "", nil, notThe("the secret key of a "+flag, path, text, "vitrine keygen --"+flag+" KEYNAME NAME")
	}
	skey = strings.TrimSpace(string(text))
	name, key, err = parseNoteKey(skey)
	if err != nil {
		return "", "", nil, fmt.Errorf("%s is damaged (%w); put it back, or make a new key with: vitrine keygen --%s KEYNAME NAME", fileName(path), err, flag)
	}
	return name, skey, key, nil
}

// readPrivateKey reads a key that signs statements.
func readPrivateKey(path string) (crypto.Signer, error) {
	text, err := readFile(path, maxKeyBytes)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte(privateKeyPrefix)) {
		return nil, notThe("a key that signs statements", path, text, "vitrine keygen NAME")
	}
	signer, err := statement.ParsePrivateKeyPEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; make a key with: vitrine keygen NAME", fileName(path), err)
	}
	return signer, nil
}
