package receipt

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"

	"filippo.io/torchwood"
)

const sigPrefix = "— " // U+2014, U+0020 (C2SP signed-note)

// A signedNote is a checkpoint taken apart, nothing of it verified.
type signedNote struct {
	text       string // what is signed
	checkpoint torchwood.Checkpoint
	signatures []noteSignature
}

// A noteSignature is one signature line. The key hash is 4 bytes that, with the
// name, select a key.
type noteSignature struct {
	name string
	hash uint32
	sig  []byte
}

// parseNote takes a signed checkpoint apart (C2SP signed-note and
// tlog-checkpoint). Every line must be well formed; there is one line for each
// key at most.
func parseNote(note []byte) (*signedNote, error) {
	if len(note) > MaxNoteBytes {
		return nil, errorf(Malformed, "the checkpoint has %d bytes; the limit is %d", len(note), MaxNoteBytes)
	}
	s := string(note)
	if !utf8.ValidString(s) {
		return nil, errorf(Malformed, "the checkpoint is not UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && (r < 0x20 || r == 0x7f) }) {
		return nil, errorf(Malformed, "the checkpoint has a control character other than newline")
	}
	split := strings.LastIndex(s, "\n\n")
	if split < 0 {
		return nil, errorf(Malformed, "the checkpoint has no empty line before its signatures")
	}
	n := &signedNote{text: s[:split+1]}
	lines, ok := strings.CutSuffix(s[split+2:], "\n")
	if !ok {
		return nil, errorf(Malformed, "the checkpoint does not end with a signature line and a newline; it may have been cut off")
	}
	var err error
	if n.checkpoint, err = torchwood.ParseCheckpoint(n.text); err != nil || n.checkpoint.String() != n.text {
		return nil, errorf(Malformed, "the note is not a checkpoint; it begins with origin, size and base64 root hash, a line each")
	}
	if !isKeyName(n.checkpoint.Origin) {
		return nil, errorf(Malformed, "the checkpoint's origin %q has a space or a plus, or is empty", clip(n.checkpoint.Origin))
	}
	if n.checkpoint.N == 0 && n.checkpoint.Hash != emptyRoot {
		return nil, errorf(Malformed, "the checkpoint names a root hash for an empty tree that is not SHA-256 of nothing")
	}
	type key struct {
		name string
		hash uint32
	}
	seen := map[key]bool{}
	for i, line := range strings.Split(lines, "\n") {
		if i == MaxSignatures {
			return nil, errorf(Malformed, "the checkpoint has more than %d signatures", MaxSignatures)
		}
		sig, ok := parseSignatureLine(line)
		if !ok {
			return nil, errorf(Malformed, "signature line %d of the checkpoint is malformed: %q; it is an em dash, a key name and base64, a space between each", i+1, clip(line))
		}
		k := key{sig.name, sig.hash}
		if seen[k] {
			return nil, errorf(Malformed, "signature line %d of the checkpoint is by %s, as one before it; there is one for each key", i+1, sig.name)
		}
		seen[k] = true
		n.signatures = append(n.signatures, sig)
	}
	return n, nil
}

func parseSignatureLine(line string) (noteSignature, bool) {
	rest, ok := strings.CutPrefix(line, sigPrefix)
	if !ok {
		return noteSignature{}, false
	}
	name, text, ok := strings.Cut(rest, " ")
	if !ok || !isKeyName(name) {
		return noteSignature{}, false
	}
	b, ok := decodeBase64(text)
	if !ok || len(b) < 5 {
		return noteSignature{}, false
	}
	return noteSignature{name: name, hash: binary.BigEndian.Uint32(b), sig: b[4:]}, true
}

// decodeBase64 accepts the one standard form of some bytes with padding, which
// the standard library's decoder does not insist on.
func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && base64.StdEncoding.EncodeToString(b) == s
}

// isKeyName reports whether s can name a key (C2SP signed-note): not empty,
// UTF-8, no space and no plus.
func isKeyName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

// ParseNote reads the form of a signed checkpoint and verifies nothing: its
// origin, the size of the tree and its root hash are what somebody wrote.
func ParseNote(note []byte) (origin string, size int64, root [32]byte, err error) {
	n, err := parseNote(note)
	if err != nil {
		return "", 0, root, err
	}
	return n.checkpoint.Origin, n.checkpoint.N, [32]byte(n.checkpoint.Hash), nil
}

func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
