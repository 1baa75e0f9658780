package main

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// TestDescribe: whatever a log holds is one line that moves no cursor, and nobody
// is named who did not sign.
func TestDescribe(t *testing.T) {
	signer := ed25519.NewKeyFromSeed([]byte("a seed that only the tests know."))
	public, err := statement.NewPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	known := []policies.Key{{Name: "channel desk", PublicKey: public}}
	payload := `{"_type":"https://in-toto.io/Statement/v1","predicate":{"channel":"stable","issuedAt":"2026-11-25T00:00:00Z","notAfter":"2026-11-26T00:00:00Z","product":"tiny","sequence":1},"predicateType":"https://vitrine.dev/predicate/channel/v1","subject":[{"digest":{"sha256":"` + strings.Repeat("ab", 32) + `"},"name":"1.0"}]}`
	leaf, err := statement.Sign([]byte(payload), signer)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := statement.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(leaf, []byte(`"sig":"`)) + len(`"sig":"`)
	forged := bytes.Clone(leaf)
	if forged[i] = 'A'; leaf[i] == 'A' {
		forged[i] = 'B'
	}
	hint := entryKey(signed)
	for _, c := range []struct {
		name  string
		leaf  []byte
		known []policies.Key
		want  string
	}{
		{"by somebody known", leaf, known, "     7  channel        tiny stable, sequence 1: 1.0 is current until 2026-11-26T00:00:00Z  (channel desk)\n"},
		{"by somebody unknown", leaf, nil, "     7  channel        tiny stable, sequence 1: 1.0 is current until 2026-11-26T00:00:00Z  (key " + hint + "…)\n"},
		{"forged", forged, known, "     7  channel        tiny stable, sequence 1: 1.0 is current until 2026-11-26T00:00:00Z  (key " + hint + "…, the signature is not that key's)\n"},
		{"something else", []byte("\x1b[2Jhello\nworld"), known, "     7  malformed      reading a leaf: "},
		{"nothing", nil, known, "     7  malformed      reading a leaf: "},
	} {
		var out bytes.Buffer
		entry := describe(log.Entry{Index: 7, Leaf: c.leaf}, c.known)
		entry.print(&out)
		if got := out.String(); !strings.HasPrefix(got, c.want) || strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func entryKey(s *statement.Signed) string {
	return describe(log.Entry{Leaf: s.Leaf}, nil).Key[:16]
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		"two\nlines\ttabs":   "two\uFFFDlines\uFFFDtabs",
		"\x1b[31mred":        "\uFFFD[31mred",
		"\u009b31m, DEL\x7f": "\uFFFD31m, DEL\uFFFD",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
