package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// checkpointFile is where the last cosigned checkpoint of a log is kept: its
// signed note, with the log's own signatures only. An origin may hold any
// character, so its hash is the name.
func checkpointFile(dir, origin string) string {
	return filepath.Join(dir, fileStem(origin)+".checkpoint")
}

// forkFile is where the first proof of a fork of a log is kept.
func forkFile(dir, origin string) string {
	return filepath.Join(dir, fileStem(origin)+".fork")
}

func fileStem(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

// load reads the last cosigned checkpoint of origin; a log that was never
// cosigned has an empty tree and a nil note. Whatever else is the matter with
// the file, the witness must not start: it would take the log for a new one.
func load(dir, origin string) (tree tlog.Tree, signed []byte, err error) {
	path := checkpointFile(dir, origin)
	signed, err = durable.ReadFile(path, maxNoteBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Tree{}, nil, nil
	}
	if err != nil {
		return tlog.Tree{}, nil, fmt.Errorf("reading the last checkpoint of %s: %w", origin, err)
	}
	text, err := noteText(signed)
	if err != nil {
		return tlog.Tree{}, nil, fmt.Errorf("reading the last checkpoint of %s from %s: %w; do not delete it: restore the file, or start over with a new key", origin, path, err)
	}
	c, err := torchwood.ParseCheckpoint(text)
	if err == nil && c.Origin != origin {
		err = fmt.Errorf("it is a checkpoint of %q", c.Origin)
	}
	if err != nil {
		return tlog.Tree{}, nil, fmt.Errorf("reading the last checkpoint of %s from %s: %w; do not delete it: restore the file, or start over with a new key", origin, path, err)
	}
	return c.Tree, signed, nil
}

// noteText gives the text of a note whose signatures the caller need not check:
// the log's key may have changed since this process wrote the file.
func noteText(signed []byte) (string, error) {
	_, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return "", errors.New("it is not a signed note")
	}
	return unverified.Note.Text, nil
}

func store(dir, origin string, signed []byte) error {
	if err := durable.WriteFile(checkpointFile(dir, origin), signed, 0o600); err != nil {
		return fmt.Errorf("remembering a checkpoint of %s: %w", origin, err)
	}
	return nil
}

// keepFork keeps two notes of one origin and size, both signed by the log, with
// different roots: the log's own confession. The first pair is enough.
func keepFork(dir, origin string, ours, theirs []byte) error {
	path := forkFile(dir, origin)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	both := append(append(append([]byte{}, ours...), '\n'), theirs...)
	return durable.WriteFile(path, both, 0o600)
}
