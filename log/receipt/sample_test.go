package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// A testKey signs notes. It is made from a sentence that says what it is, so
// that everybody can make it again.
type testKey struct {
	name string
	alg  byte
	key  ed25519.PrivateKey
}

func newTestKey(name string, alg byte) testKey {
	return testKey{name, alg, vectors.Key(name)}
}

func (k testKey) raw() []byte {
	return append([]byte{k.alg}, k.key.Public().(ed25519.PublicKey)...)
}

// hash is the key hash of C2SP signed-note.
func (k testKey) hash() uint32 {
	sum := sha256.Sum256(append([]byte(k.name+"\n"), k.raw()...))
	return binary.BigEndian.Uint32(sum[:])
}

func (k testKey) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash(), base64.StdEncoding.EncodeToString(k.raw()))
}

func (k testKey) line(sig []byte) string {
	b := append(binary.BigEndian.AppendUint32(nil, k.hash()), sig...)
	return sigPrefix + k.name + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// sign is a log's signature line.
func (k testKey) sign(text string) string { return k.line(ed25519.Sign(k.key, []byte(text))) }

// cosign is a witness's cosignature line at a time (C2SP tlog-cosignature).
func (k testKey) cosign(text string, at time.Time) string {
	return k.cosignUnix(text, uint64(at.Unix()))
}

var (
	testLog = newTestKey("log.vitrine.example", algEd25519)
	w1      = newTestKey("w1.vitrine.example", algCosignature)
	w2      = newTestKey("w2.vitrine.example", algCosignature)
	w3      = newTestKey("w3.vitrine.example", algCosignature)
)

// testNow is when the samples are read.
var testNow = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return testNow.Add(-d) }

// policyText is a policy of three witnesses with the given last lines.
func policyText(tail ...string) string {
	return "# three witnesses\n" +
		"log " + testLog.vkey() + " https://log.vitrine.example/\n" +
		"witness w1 " + w1.vkey() + " https://w1.vitrine.example/\n" +
		"witness w2 " + w2.vkey() + " https://w2.vitrine.example/\n" +
		"witness w3 " + w3.vkey() + "\n" +
		strings.Join(tail, "\n") + "\n"
}

func mustPolicy(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy(text, strings.Contains(text, "quorum none"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A testTree is a log in memory.
type testTree struct {
	hashes []tlog.Hash // as tlog.StoredHashIndex orders them
	size   int64
}

func (tree *testTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, tree.hashes[i])
	}
	return out, nil
}

func newTestTree(t testing.TB, leaves ...[]byte) *testTree {
	t.Helper()
	tree := &testTree{}
	for _, leaf := range leaves {
		hashes, err := tlog.StoredHashes(tree.size, leaf, tree)
		if err != nil {
			t.Fatal(err)
		}
		tree.hashes = append(tree.hashes, hashes...)
		tree.size++
	}
	return tree
}

func (tree *testTree) root(t testing.TB) tlog.Hash {
	t.Helper()
	root, err := tlog.TreeHash(tree.size, tree)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// text is the body of the tree's checkpoint.
func (tree *testTree) text(t testing.TB, origin string) string {
	t.Helper()
	return fmt.Sprintf("%s\n%d\n%s\n", origin, tree.size, tree.root(t))
}

func (tree *testTree) proof(t testing.TB, index int64) []tlog.Hash {
	t.Helper()
	p, err := tlog.ProveRecord(tree.size, index, tree)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sampleLeaves are seven leaves; sampleIndex is the one that receipts are for.
func sampleLeaves() [][]byte {
	var leaves [][]byte
	for i := range 7 {
		leaves = append(leaves, fmt.Appendf(nil, "leaf %d", i))
	}
	return leaves
}

const sampleIndex = 4

// sampleReceipt is a receipt for the sample leaf with those signature lines,
// which are made from the checkpoint's text.
func sampleReceipt(t testing.TB, lines ...func(text string) string) []byte {
	t.Helper()
	tree := newTestTree(t, sampleLeaves()...)
	return FormatProof(sampleIndex, tree.proof(t, sampleIndex), sampleNote(t, lines...))
}

func sampleNote(t testing.TB, lines ...func(text string) string) []byte {
	t.Helper()
	text := newTestTree(t, sampleLeaves()...).text(t, testLog.name)
	note := text + "\n"
	for _, line := range lines {
		note += line(text)
	}
	return []byte(note)
}

func (k testKey) at(when time.Time) func(string) string {
	return func(text string) string { return k.cosign(text, when) }
}

// cosignUnix is cosign at a time that need not be one.
func (k testKey) cosignUnix(text string, t uint64) string {
	sig := ed25519.Sign(k.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", t, text))
	return k.line(append(binary.BigEndian.AppendUint64(nil, t), sig...))
}

// A forger signs with its own key, as though it were another's: the lines have
// the name and key hash of the victim.
type forger struct{ victim, own testKey }

func forge(victim, own testKey) forger { return forger{victim, own} }

func (f forger) sign(text string) string {
	return f.victim.line(ed25519.Sign(f.own.key, []byte(text)))
}

func (f forger) at(when time.Time) func(string) string {
	return func(text string) string {
		t := uint64(when.Unix())
		sig := ed25519.Sign(f.own.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", t, text))
		return f.victim.line(append(binary.BigEndian.AppendUint64(nil, t), sig...))
	}
}

// redate is a cosignature made at one time and presented as of another.
func redate(k testKey, made, shown time.Time) func(string) string {
	return func(text string) string {
		sig := ed25519.Sign(k.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", made.Unix(), text))
		return k.line(append(binary.BigEndian.AppendUint64(nil, uint64(shown.Unix())), sig...))
	}
}

// manyCosignatures are by witnesses that no policy names.
func manyCosignatures(n int) []func(string) string {
	var out []func(string) string
	for i := range n {
		out = append(out, newTestKey(fmt.Sprintf("x%d.vitrine.example", i), algCosignature).at(testNow))
	}
	return out
}

// signedAs is a receipt whose checkpoint, signed and cosigned, has another
// origin.
func signedAs(t testing.TB, origin string, lines ...func(string) string) []byte {
	t.Helper()
	tree := newTestTree(t, sampleLeaves()...)
	text := tree.text(t, origin)
	note := text + "\n"
	for _, line := range lines {
		note += line(text)
	}
	return FormatProof(sampleIndex, tree.proof(t, sampleIndex), []byte(note))
}

// editRoot gives a receipt another root hash than was signed.
func editRoot(t testing.TB, receipt []byte) []byte {
	t.Helper()
	root := newTestTree(t, sampleLeaves()...).root(t).String()
	other := newTestTree(t, sampleLeaves()[1:]...).root(t).String()
	return []byte(strings.Replace(string(receipt), root, other, 1))
}
