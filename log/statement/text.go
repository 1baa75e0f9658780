package statement

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

const (
	maxNameBytes = 64
	maxTextBytes = 512
)

// The forms of docs/formats.md, "Statement payload", for whoever takes such a
// value before it gets into a statement. An error says what was found and what
// to write.

// CheckName accepts [a-z0-9][a-z0-9._-]{0,63}.
func CheckName(s string) error {
	ok := s != "" && len(s) <= maxNameBytes
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%q is not a name; use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit", ijson.Clip(s))
	}
	return nil
}

// CheckVersion accepts 1 to 64 of [A-Za-z0-9.+_-].
func CheckVersion(s string) error {
	ok := s != "" && len(s) <= maxNameBytes
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '.' || c == '+' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%q is not a version; use 1 to 64 of A-Z a-z 0-9 . + _ -", ijson.Clip(s))
	}
	return nil
}

// CheckText accepts one line of 1 to 512 bytes of free text. The refused
// characters are a closed list and not a Unicode property, so that two readers
// with different Unicode tables never disagree about the same statement; they
// are those that let text on a screen pretend to be other text.
func CheckText(s string) error {
	switch {
	case s == "":
		return errors.New("empty; say something")
	case len(s) > maxTextBytes:
		return fmt.Errorf("%d bytes of text; the limit is %d", len(s), maxTextBytes)
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(s, deceptive):
		return fmt.Errorf("%q has a control character; write one line of plain text", ijson.Clip(s))
	}
	return nil
}

// CheckCommit accepts an object name of git, by SHA-1 or SHA-256.
func CheckCommit(s string) error {
	if len(s) != 40 && len(s) != 64 || !isHex(s) {
		return fmt.Errorf("%q is not a commit; write all 40 or 64 lower-case hex digits", ijson.Clip(s))
	}
	return nil
}

// CheckSHA256 accepts a SHA-256 in lower-case hex.
func CheckSHA256(s string) error {
	if len(s) != 64 || !isHex(s) {
		return fmt.Errorf("%q is not a SHA-256; write its 64 lower-case hex digits", ijson.Clip(s))
	}
	return nil
}

func checkName(path, s string) error    { return placed(path, CheckName(s)) }
func checkVersion(path, s string) error { return placed(path, CheckVersion(s)) }
func checkText(path, s string) error    { return placed(path, CheckText(s)) }

func checkDigest(path string, d Digest) error { return placed(path+"/sha256", CheckSHA256(d.SHA256)) }

// placed is the error of a value at a place.
func placed(path string, err error) error {
	if err == nil {
		return nil
	}
	return ijson.Errorf(path, "%v", err)
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
		return ijson.Errorf(path, "%q is not %d bytes in lower-case hex (%d digits)", ijson.Clip(s), n, 2*n)
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

// first returns the first error of a list of checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
