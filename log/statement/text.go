package statement

import (
	"strings"
	"unicode/utf8"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

const (
	maxNameBytes = 64
	maxTextBytes = 512
)

// checkName accepts [a-z0-9][a-z0-9._-]{0,63}.
func checkName(path, s string) error {
	ok := s != "" && len(s) <= maxNameBytes
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return ijson.Errorf(path, "%q is not a name; use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit", clip(s))
	}
	return nil
}

// checkVersion accepts 1 to 64 of [A-Za-z0-9.+_-].
func checkVersion(path, s string) error {
	ok := s != "" && len(s) <= maxNameBytes
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '.' || c == '+' || c == '_' || c == '-'
	}
	if !ok {
		return ijson.Errorf(path, "%q is not a version; use 1 to 64 of A-Z a-z 0-9 . + _ -", clip(s))
	}
	return nil
}

// checkText accepts one line of free text. The refused characters are a closed
// list and not a Unicode property, so that two readers with different Unicode
// tables never disagree about the same statement; they are those that let text
// on a screen pretend to be other text.
func checkText(path, s string) error {
	switch {
	case s == "":
		return ijson.Errorf(path, "empty; say something")
	case len(s) > maxTextBytes:
		return ijson.Errorf(path, "%d bytes of text; the limit is %d", len(s), maxTextBytes)
	case !utf8.ValidString(s):
		return ijson.Errorf(path, "not UTF-8")
	case strings.ContainsFunc(s, deceptive):
		return ijson.Errorf(path, "%q has a control character; write one line of plain text", clip(s))
	}
	return nil
}

func deceptive(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f, // C0, DEL, C1
		r == 0x061c, 0x200b <= r && r <= 0x200f, // zero width, direction marks
		0x2028 <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, // line separators, embeddings, isolates
		r == 0xfeff, 0xfff0 <= r && r <= 0xffff, // byte order mark, specials
		0xe0000 <= r && r <= 0xe0fff: // tags
		return true
	}
	return false
}

// checkHex accepts lower-case hex of exactly n bytes.
func checkHex(path, s string, n int) error {
	if len(s) != 2*n || !isHex(s) {
		return ijson.Errorf(path, "%q is not %d bytes in lower-case hex (%d digits)", clip(s), n, 2*n)
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func checkDigest(path string, d Digest) error {
	return checkHex(path+"/sha256", d.SHA256, 32)
}

// first returns the first error of a list of checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
