package witness_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A tree is a log in memory, of which checkpoints and consistency proofs can be
// had at every size.
type tree struct {
	t      testing.TB
	hashes []tlog.Hash
	size   int64
}

// newTree makes a tree of size leaves. Trees with different labels have
// different leaves from index fork on.
func newTree(t testing.TB, size, fork int64, label string) *tree {
	tr := &tree{t: t}
	for i := range size {
		leaf := fmt.Sprintf("leaf %d", i)
		if i >= fork {
			leaf += " of " + label
		}
		hs, err := tlog.StoredHashes(i, []byte(leaf), tr)
		if err != nil {
			t.Fatal(err)
		}
		tr.hashes = append(tr.hashes, hs...)
		tr.size++
	}
	return tr
}

func (tr *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, tr.hashes[i])
	}
	return out, nil
}

func (tr *tree) root(size int64) tlog.Hash {
	h, err := tlog.TreeHash(size, tr)
	if err != nil {
		tr.t.Fatal(err)
	}
	return h
}

// proof is empty when from is 0, or size itself.
func (tr *tree) proof(from, size int64) tlog.TreeProof {
	if from == 0 || from == size {
		return nil
	}
	p, err := tlog.ProveTree(size, from, tr)
	if err != nil {
		tr.t.Fatal(err)
	}
	return p
}

func (tr *tree) checkpoint(signer note.Signer, size int64) string {
	return sign(tr.t, signer, torchwood.Checkpoint{Origin: signer.Name(), Tree: tlog.Tree{N: size, Hash: tr.root(size)}}.String())
}

func sign(t testing.TB, signer note.Signer, text string) string {
	n, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(n)
}

func body(old int64, proof tlog.TreeProof, checkpoint string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintf(&b, "%s\n", h)
	}
	b.WriteString("\n" + checkpoint)
	return b.String()
}

func newKey(t testing.TB, name string) (note.Signer, string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}
