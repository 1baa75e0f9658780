// Package ijson reads and writes this project's own JSON documents: I-JSON
// (RFC 7493), integers only, every member required unless its Go field says
// otherwise, and a canonical form (RFC 8785) where bytes are signed.
//
// It exists because a signed document must mean one thing. encoding/json
// matches member names without regard to case, takes the last of two equal
// members, turns an absent member or null into a zero value and replaces bad
// UTF-8; each of these lets two readers see two statements in the same bytes.
// All of them are refused here, and the refusal names the place.
//
// Struct fields carry encoding/json's tags. A member is required, unless its
// tag says omitempty: then it may be absent, and where it is present it may not
// be empty, so that there is one way to write each value. A struct with the
// blank field
//
//	_ struct{} `ijson:"open"`
//
// tolerates unknown members; every other struct refuses them. The tag
// `ijson:"max=N"` bounds the elements of a list while it is read, for documents
// that are long enough to hold more than there should be memory for.
//
// Supported field types are string, bool, int64, []byte (standard base64 with
// padding), [time.Time] (RFC 3339, UTC, whole seconds), [json.RawMessage] (any
// JSON value, kept as it stands), structs, pointers to structs (with omitempty
// only), and slices and string-keyed maps of these.
package ijson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxInt is the largest integer that every JSON reader keeps exactly, 2^53-1
// (RFC 7493 §2.2). The smallest is -MaxInt.
const MaxInt = 1<<53 - 1

// maxOpenDepth bounds the nesting of members that are tolerated unread.
const maxOpenDepth = 32

// An Error says which value of a document was refused, why, and what would mend
// it.
type Error struct {
	Path   string // JSON pointer (RFC 6901); empty for the whole document
	Detail string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Detail
	}
	return e.Path + ": " + e.Detail
}

// Errorf returns an [Error] about the value at path.
func Errorf(path, format string, args ...any) *Error {
	return &Error{Path: path, Detail: fmt.Sprintf(format, args...)}
}

// Join returns the pointer to the member or element called name under path.
func Join(path, name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return path + "/" + name
}

// Canonical returns the form of data that RFC 8785 prescribes. It refuses what
// is not I-JSON: bad UTF-8, a member that stands twice.
func Canonical(data []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(data))
	if err := v.Canonicalize(); err != nil {
		return nil, syntaxError(err)
	}
	return v, nil
}

// CheckCanonical returns an error unless data is in the form of RFC 8785,
// naming the first byte that is not.
func CheckCanonical(data []byte) error {
	canonical, err := Canonical(data)
	if err != nil {
		return err
	}
	if bytes.Equal(data, canonical) {
		return nil
	}
	i := 0
	for i < len(data) && i < len(canonical) && data[i] == canonical[i] {
		i++
	}
	return Errorf("", "byte %d: not in canonical form, want %s and have %s; write the document by RFC 8785 (JCS)",
		i, window(canonical, i), window(data, i))
}

// window quotes a few bytes from i on, for an error message.
func window(b []byte, i int) string {
	const width = 16
	if i >= len(b) {
		return "the end"
	}
	return fmt.Sprintf("%q", b[i:min(len(b), i+width)])
}

// syntaxError turns what jsontext says into an [Error].
func syntaxError(err error) error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		// jsontext says io.EOF alone where there is nothing at all.
		if errors.Is(err, io.EOF) {
			return Errorf("", "not JSON: there is nothing in it")
		}
		return Errorf("", "not JSON: %v", err)
	}
	path := string(syntax.JSONPointer)
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return Errorf(path, "the member stands twice; keep one")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return Errorf(path, "byte %d: not JSON: it ends too early; the rest is missing", syntax.ByteOffset)
	}
	return Errorf(path, "byte %d: not JSON: %v", syntax.ByteOffset, syntax.Err)
}
