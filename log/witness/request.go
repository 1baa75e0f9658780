package witness

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxProofLines is the bound of tlog-witness, "add-checkpoint".
	maxProofLines = 63
	// maxNoteBytes leaves room for a checkpoint with as many signature lines as
	// a note may have (100) of Ed25519 size, and some of ML-DSA-44.
	maxNoteBytes = 64 << 10
	maxBodyBytes = len("old 9223372036854775807\n") + maxProofLines*(hashLineBytes+1) + 1 + maxNoteBytes
	// hashLineBytes is the length of 32 bytes in base64.
	hashLineBytes = 44
)

// A request is the body of add-checkpoint, taken apart; nothing in it has been
// verified.
type request struct {
	oldSize int64
	proof   tlog.TreeProof
	origin  string
	note    []byte
}

// parseRequest reads the body of add-checkpoint: an old size line, consistency
// proof lines, an empty line, a signed checkpoint.
func parseRequest(body []byte) (*request, error) {
	if len(body) > maxBodyBytes {
		return nil, fmt.Errorf("the request is longer than %d bytes", maxBodyBytes)
	}
	head, signed, found := strings.Cut(string(body), "\n\n")
	if !found {
		return nil, errors.New("the request has no empty line between the proof and the checkpoint")
	}
	lines := strings.Split(head, "\n")

	r := &request{note: []byte(signed)}
	size, found := strings.CutPrefix(lines[0], "old ")
	if !found {
		return nil, errors.New(`the first line is not "old SIZE"`)
	}
	var err error
	if r.oldSize, err = parseSize(size); err != nil {
		return nil, fmt.Errorf("the old size: %w", err)
	}
	lines = lines[1:]
	if len(lines) > maxProofLines {
		return nil, fmt.Errorf("the proof has %d lines, more than %d", len(lines), maxProofLines)
	}
	for i, line := range lines {
		hash, err := tlog.ParseHash(line)
		// ParseHash skips carriage returns and ignores trailing bits.
		if err != nil || hash.String() != line {
			return nil, fmt.Errorf("proof line %d is not the base64 of 32 bytes", i+1)
		}
		r.proof = append(r.proof, hash)
	}
	if r.origin, _, found = strings.Cut(signed, "\n"); !found || r.origin == "" {
		return nil, errors.New("the checkpoint has no origin line")
	}
	return r, nil
}

// parseSize reads a tree size in its only form: decimal, no sign, no leading
// zero.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("it is not a decimal number without sign or leading zeroes")
	}
	return n, nil
}
