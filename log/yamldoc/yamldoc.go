// Package yamldoc reads one YAML document strictly, with FILE:LINE errors that
// say the mend.
//
// It understands less than YAML on purpose: one mapping, no anchors, aliases,
// tags, merge keys, directives or document marks, no null, no number but a
// decimal integer, no boolean spelled otherwise than true and false. The YAML
// library's own decoder turns 1.10 into the string "1.1" and 1.5 into the
// integer 1; here a value is what was written or an error. A document may come
// from a stranger by way of a log, so its size and depth are bounded before
// anything recurses into it.
//
// The first error is kept with the document and everything that is read after
// it is empty, so that a reader is straight lines that ask for [Mapping.Err] at
// the end. Until then nothing that was read may be believed.
package yamldoc

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Error is what is wrong with a file, where, and what to do about it, in one
// line.
type Error struct {
	File   string
	Line   int // from 1
	Detail string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail) }

// Form is what all documents of one kind have in common.
type Form struct {
	Name     string // in messages: "the recipe"
	Version  string // what the key "vitrine" must say: "recipe/v1"
	MaxBytes int
}

// Bounds that no format here comes near. The YAML library's parser recurses,
// and takes time that grows with the square of the number of keys.
const (
	maxNesting = 16
	maxKeys    = 10_000
)

// document is what all values of a file share.
type document struct {
	file string
	form Form
	err  *Error
}

func (d *document) failf(line int, format string, args ...any) {
	if d.err == nil {
		d.err = &Error{File: d.file, Line: max(line, 1), Detail: fmt.Sprintf(format, args...)}
	}
}

// Read reads text, a document of the given form with no keys at its top but
// "vitrine", which says the form's version, and the given ones. The name of the
// file is for messages only.
func Read(file string, text []byte, form Form, keys ...string) Mapping {
	d := &document{file: file, form: form}
	root := Value{doc: d, line: 1}
	if body := d.parse(text); body != nil {
		root = Value{doc: d, node: body, line: lineOf(body)}
	}
	m := root.Mapping(append([]string{"vitrine"}, keys...)...)
	m.Need("vitrine", fmt.Sprintf("write %q", "vitrine: "+form.Version)).Text(func(s string) error {
		if s != form.Version {
			return fmt.Errorf("%q is unknown here: this program reads %q", s, form.Version)
		}
		return nil
	})
	return m
}

// parse gives the one node that the text must be, or nil after an error.
func (d *document) parse(text []byte) (body ast.Node) {
	if len(text) > d.form.MaxBytes {
		d.failf(1, "%d bytes, more than the %d of %s: move parts of it to files of their own", len(text), d.form.MaxBytes, d.form.Name)
		return nil
	}
	if !utf8.Valid(text) {
		d.failf(1, "not UTF-8 text: save it as UTF-8")
		return nil
	}
	if i := slices.IndexFunc(text, func(c byte) bool { return c < ' ' && c != '\n' && c != '\t' }); i >= 0 {
		d.failf(1+strings.Count(string(text[:i]), "\n"), "control character %#02x: use spaces and newlines (LF)", text[i])
		return nil
	}
	// A panic of the YAML library is an error about the file, and does not end
	// the monitor that reads a stranger's.
	defer func() {
		if p := recover(); p != nil {
			d.failf(1, "the YAML parser cannot read this: write it more plainly")
			body = nil
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if !d.plain(tokens) {
		return nil
	}
	// A repeated key is refused by Value.Mapping, in words of ours.
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, detail := syntaxError(err)
		d.failf(line, "not YAML: %s: mend the syntax", detail)
		return nil
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		d.failf(1, "%s is empty: begin it with %q", d.form.Name, "vitrine: "+d.form.Version)
		return nil
	}
	return f.Docs[0].Body
}

// plain refuses what makes YAML mean something other than what stands there,
// and what passes the bounds above.
func (d *document) plain(tokens token.Tokens) bool {
	flow, keys := 0, 0
	var before *token.Token // the last one that is no comment
	for _, t := range tokens {
		line := t.Position.Line
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.MappingValueType:
			keys++
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType, token.MappingKeyType, token.DocumentHeaderType, token.DocumentEndType:
			d.failf(line, "%q: anchors, aliases, tags, merge keys, directives, explicit keys and document marks are not used here: write the value itself", clip(t.Value))
			return false
		case token.SequenceEntryType:
			// "- - - -" nests once per dash without a deeper line, and a long
			// run of empty items takes the parser long.
			if before == nil || before.Type != token.SequenceEntryType {
				break
			}
			if before.Position.Column < t.Position.Column {
				d.failf(line, "a list directly inside a list: none is expected here")
			} else {
				d.failf(before.Position.Line, "an item is empty: remove the dash")
			}
			return false
		}
		if t.Type != token.CommentType {
			before = t
		}
		if keys > maxKeys {
			d.failf(line, "more than %d keys: divide the file", maxKeys)
			return false
		}
		if flow > maxNesting || t.Position.IndentNum > 8*maxNesting {
			d.failf(line, "nested more than %d deep: no value here is", maxNesting)
			return false
		}
	}
	return true
}

// syntaxError takes the line and the message out of the library's error, whose
// text is several lines of annotated source.
func syntaxError(err error) (line int, detail string) {
	line, detail = 1, err.Error()
	if e, ok := err.(interface{ GetToken() *token.Token }); ok && e.GetToken() != nil && e.GetToken().Position != nil {
		line = e.GetToken().Position.Line
	}
	if e, ok := err.(interface{ GetMessage() string }); ok {
		detail = e.GetMessage()
	}
	return line, oneLine(detail)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// lineOf is the line on which a node begins. A block mapping's own token is the
// first colon, which may stand below a key of several lines.
func lineOf(n ast.Node) int {
	switch v := n.(type) {
	case nil:
		return 1
	case *ast.MappingNode:
		if len(v.Values) > 0 && !v.IsFlowStyle {
			return lineOf(v.Values[0])
		}
	case *ast.MappingValueNode:
		return lineOf(v.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

// clip keeps a message to one line of a readable length.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
