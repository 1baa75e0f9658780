package receipt

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// TransparentFormat names the format of a transparent statement's file.
const TransparentFormat = "https://vitrine.dev/transparent-statement/v1"

// Transparent is a transparent statement: a leaf, and receipts that prove it to
// be in one log or several. It works offline and is written as JSON.
type Transparent struct {
	Leaf     []byte
	Receipts []string // C2SP tlog-proofs, oldest first for each log
}

type transparentFile struct {
	Format   string   `json:"format"`
	Leaf     []byte   `json:"leaf"`
	Receipts []string `json:"receipts" ijson:"max=8"`
}

// ParseTransparent reads the form of a transparent statement. Whether the leaf
// is a statement and the receipts prove anything is for others to say. Errors
// are *[Error] of kind [Malformed].
func ParseTransparent(b []byte) (*Transparent, error) {
	var f transparentFile
	if err := ijson.Unmarshal(b, &f, MaxTransparentBytes); err != nil {
		return nil, errorf(Malformed, "reading a transparent statement: %v", err)
	}
	if f.Format != TransparentFormat {
		return nil, errorf(Malformed, "reading a transparent statement: /format: %q is not %s", clip(f.Format), TransparentFormat)
	}
	t := &Transparent{Leaf: f.Leaf, Receipts: f.Receipts}
	if err := t.validate(); err != nil {
		return nil, errorf(Malformed, "reading a transparent statement: %v", err)
	}
	return t, nil
}

// Marshal writes the transparent statement in canonical JSON.
func (t *Transparent) Marshal() ([]byte, error) {
	if err := t.validate(); err != nil {
		return nil, errorf(Malformed, "writing a transparent statement: %v", err)
	}
	b, err := ijson.Marshal(transparentFile{TransparentFormat, t.Leaf, t.Receipts})
	if err != nil {
		return nil, errorf(Malformed, "writing a transparent statement: %v", err)
	}
	if len(b) > MaxTransparentBytes {
		return nil, errorf(Malformed, "writing a transparent statement: %d bytes; the limit is %d", len(b), MaxTransparentBytes)
	}
	return b, nil
}

func (t *Transparent) validate() error {
	if len(t.Leaf) == 0 || len(t.Leaf) > MaxLeafBytes {
		return ijson.Errorf("/leaf", "%d bytes; a leaf has 1 to %d", len(t.Leaf), MaxLeafBytes)
	}
	if len(t.Receipts) == 0 || len(t.Receipts) > MaxReceipts {
		return ijson.Errorf("/receipts", "%d receipts; a transparent statement has 1 to %d", len(t.Receipts), MaxReceipts)
	}
	for i, receipt := range t.Receipts {
		at := "/receipts/" + strconv.Itoa(i)
		if _, err := ParseProof([]byte(receipt)); err != nil {
			return ijson.Errorf(at, "%v", err)
		}
		if slices.Contains(t.Receipts[:i], receipt) {
			return ijson.Errorf(at, "the receipt stands twice")
		}
	}
	return nil
}

// Add takes in a newer receipt. For each log the first receipt stays, as it
// proves the most seniority, and the newest replaces what came between. The
// caller has verified the receipt and knows that it is newer. A receipt that
// is there already changes nothing.
func (t *Transparent) Add(receipt string) error {
	added, err := ParseProof([]byte(receipt))
	if err != nil {
		return fmt.Errorf("adding a receipt: %w", err)
	}
	if slices.Contains(t.Receipts, receipt) {
		return nil
	}
	var kept []string
	first := true
	for _, r := range t.Receipts {
		old, err := ParseProof([]byte(r))
		if err != nil {
			return fmt.Errorf("adding a receipt to one that cannot be read: %w", err)
		}
		if old.Origin != added.Origin {
			kept = append(kept, r)
			continue
		}
		if first {
			kept = append(kept, r)
			first = false
		}
	}
	kept = append(kept, receipt)
	if len(kept) > MaxReceipts {
		return errorf(Malformed, "adding a receipt: the statement already has %d, the limit, of other logs", len(t.Receipts))
	}
	t.Receipts = kept
	return nil
}

// Best is the best that the receipts of a transparent statement prove.
type Best struct {
	Oldest *Receipt // of the smallest seniority
	Newest *Receipt // of the largest freshness
}

// VerifyTransparent verifies a transparent statement's receipts and returns
// what those that are valid prove; receipts that are not are of no consequence
// as long as one is. If none is, the error is that of the receipt that came
// closest, an *[Error].
func (p *Policy) VerifyTransparent(t *Transparent, now time.Time) (*Best, error) {
	if len(t.Receipts) == 0 {
		return nil, errorf(Malformed, "the transparent statement has no receipt")
	}
	if len(t.Receipts) > MaxReceipts {
		return nil, errorf(Malformed, "the transparent statement has %d receipts; the limit is %d", len(t.Receipts), MaxReceipts)
	}
	var best Best
	var closest error
	for _, text := range t.Receipts {
		r, err := p.Verify(t.Leaf, []byte(text), now)
		if err != nil {
			if closest == nil || progress(err) >= progress(closest) {
				closest = err
			}
			continue
		}
		if best.Oldest == nil || r.Seniority.Before(best.Oldest.Seniority) {
			best.Oldest = r
		}
		if best.Newest == nil || r.Freshness.After(best.Newest.Freshness) {
			best.Newest = r
		}
	}
	if best.Oldest == nil {
		return nil, closest
	}
	return &best, nil
}

// progress orders errors by how far verification had come.
func progress(err error) int {
	e, ok := err.(*Error)
	if !ok {
		return 0
	}
	return slices.Index([]Kind{Malformed, WrongLog, LogSignature, Quorum, Future, Inclusion}, e.Kind)
}
