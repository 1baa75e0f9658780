package receipt

import (
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

const proofHeader = "c2sp.org/tlog-proof@v1"

// Proof is the form of a receipt, nothing of it verified.
type Proof struct {
	Index  int64       // of the leaf in the log
	Hashes []tlog.Hash // from the leaf's sibling up
	Note   []byte      // the signed checkpoint
	Origin string      // of the checkpoint
	Size   int64       // of the checkpoint's tree
}

// ParseProof reads the form of a receipt, a C2SP tlog-proof without extra
// data. Errors are *[Error] of kind [Malformed].
func ParseProof(proof []byte) (*Proof, error) {
	if len(proof) > MaxReceiptBytes {
		return nil, errorf(Malformed, "the receipt has %d bytes; the limit is %d", len(proof), MaxReceiptBytes)
	}
	header, rest, ok := strings.Cut(string(proof), "\n")
	if !ok || header != proofHeader {
		return nil, errorf(Malformed, "the receipt does not begin with the line %s", proofHeader)
	}
	if strings.HasPrefix(rest, "extra ") {
		return nil, errorf(Malformed, "the receipt has an extra line, which nothing authenticates; remove it")
	}
	index, rest, ok := strings.Cut(rest, "\n")
	if !ok {
		return nil, errorf(Malformed, "the receipt ends before its index line")
	}
	number, ok := strings.CutPrefix(index, "index ")
	if !ok {
		return nil, errorf(Malformed, "the receipt's second line is %q; want index and the leaf's index", clip(index))
	}
	p := &Proof{}
	var err error
	if p.Index, err = strconv.ParseInt(number, 10, 64); err != nil || p.Index < 0 || strconv.FormatInt(p.Index, 10) != number {
		return nil, errorf(Malformed, "the receipt's index %q is not a number in plain decimal", clip(number))
	}
	for {
		var line string
		if line, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, errorf(Malformed, "the receipt ends before its checkpoint; it may have been cut off")
		}
		if line == "" {
			break
		}
		h, ok := decodeBase64(line)
		if !ok || len(h) != tlog.HashSize {
			return nil, errorf(Malformed, "the receipt's proof line %d is not the base64 of a SHA-256: %q", len(p.Hashes)+1, clip(line))
		}
		if len(p.Hashes) == maxHashes {
			return nil, errorf(Malformed, "the receipt has more than %d proof lines; no tree is so high", maxHashes)
		}
		p.Hashes = append(p.Hashes, tlog.Hash(h))
	}
	p.Note = []byte(rest)
	n, err := parseNote(p.Note)
	if err != nil {
		return nil, err
	}
	p.Origin, p.Size = n.checkpoint.Origin, n.checkpoint.N
	if p.Index >= p.Size {
		return nil, errorf(Malformed, "the receipt is for index %d of a tree of %d leaves", p.Index, p.Size)
	}
	return p, nil
}

// FormatProof writes a receipt: the leaf's index, the inclusion proof from the
// leaf's sibling up, and the signed checkpoint.
func FormatProof(index int64, hashes []tlog.Hash, note []byte) []byte {
	return torchwood.FormatProof(index, hashes, note)
}

// Receipt is a proof that was verified: the leaf stands at Index of a log whose
// quorum of witnesses saw the checkpoint.
type Receipt struct {
	Index int64
	Checkpoint
}

// Verify verifies that the receipt proves the leaf to be in the policy's log.
// Errors are *[Error].
func (p *Policy) Verify(leaf, proof []byte, now time.Time) (*Receipt, error) {
	parsed, err := ParseProof(proof)
	if err != nil {
		return nil, err
	}
	c, err := p.OpenCheckpoint(parsed.Note, now)
	if err != nil {
		return nil, err
	}
	if err := tlog.CheckRecord(parsed.Hashes, c.Size, tlog.Hash(c.Root), parsed.Index, tlog.RecordHash(leaf)); err != nil {
		return nil, errorf(Inclusion, "the leaf is not at index %d of checkpoint %d of %s: the inclusion proof does not lead to its root", parsed.Index, c.Size, c.Origin)
	}
	return &Receipt{Index: parsed.Index, Checkpoint: *c}, nil
}
