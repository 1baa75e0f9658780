package builder

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// FormatError is a recipe or a lock that cannot be used. It names the place and
// says what to do about it.
type FormatError struct {
	File   string
	Line   int // counted from 1
	Detail string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail)
}

const (
	maxRecipeBytes = 64 << 10
	maxYAMLNesting = 16
)

// document reads one YAML mapping from a file. It understands less than YAML on
// purpose: no anchors, aliases, tags, merge keys, directives or second
// document, no null, no number but a decimal integer, no boolean spelled
// otherwise than true and false. The YAML library's own decoder turns 1.10 into
// the string "1.1" and 1.5 into the integer 1; here a value is what was written
// or an error.
//
// The recipe may come from a stranger by way of a log, so a panic of the parser
// is an error about the recipe and does not end the monitor that reads it.
func document(name string, b []byte, maxBytes int) (root node, err error) {
	fail := func(line int, format string, args ...any) (node, error) {
		return node{}, &FormatError{name, line, fmt.Sprintf(format, args...)}
	}
	if len(b) > maxBytes {
		return fail(1, "%d bytes, more than %d: move long texts to files of their own", len(b), maxBytes)
	}
	if !utf8.Valid(b) {
		return fail(1, "not UTF-8 text")
	}
	if i := slices.IndexFunc(b, func(c byte) bool { return c < ' ' && c != '\n' && c != '\t' }); i >= 0 {
		return fail(1+strings.Count(string(b[:i]), "\n"), "control character %#02x: use spaces and newlines (LF)", b[i])
	}
	defer func() {
		if p := recover(); p != nil {
			root, err = fail(1, "the YAML parser cannot read this: write it more plainly")
		}
	}()
	tokens := lexer.Tokenize(string(b))
	flow, column := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType, token.MappingKeyType, token.DocumentHeaderType, token.DocumentEndType:
			return fail(t.Position.Line, "%q: anchors, aliases, tags, directives, explicit keys and document marks are not used here; write the value itself", t.Value)
		case token.SequenceEntryType:
			// "- - - -" nests once per dash without a deeper line.
			if t.Next != nil && t.Next.Type == token.SequenceEntryType && t.Next.Position.Line == t.Position.Line {
				return fail(t.Position.Line, "a list directly inside a list: none is expected here")
			}
		}
		column = max(column, t.Position.Column)
		if flow > maxYAMLNesting || t.Position.IndentNum > 8*maxYAMLNesting {
			return fail(t.Position.Line, "nested more than %d deep: no value here is", maxYAMLNesting)
		}
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		line, detail := yamlError(err)
		return fail(line, "%s", detail)
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return fail(1, "empty: expected a mapping that begins with a version line such as %q", "vitrine: "+RecipeVersion)
	}
	return node{name, f.Docs[0].Body}, nil
}

// yamlError takes the line and the first line of the message out of the
// library's error, whose text is several lines of annotated source.
func yamlError(err error) (int, string) {
	line := 1
	if e, ok := err.(interface{ GetToken() *token.Token }); ok && e.GetToken() != nil && e.GetToken().Position != nil {
		line = e.GetToken().Position.Line
	}
	if e, ok := err.(interface{ GetMessage() string }); ok {
		return line, e.GetMessage()
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return line, first
}

// node is a value together with the file that it stands in.
type node struct {
	file string
	ast  ast.Node
}

func (n node) line() int {
	if t := n.ast.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

func (n node) errorf(format string, args ...any) error {
	return &FormatError{n.file, n.line(), fmt.Sprintf(format, args...)}
}

// describe names what is there, for "expected X, found Y".
func (n node) describe() string {
	switch v := n.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.StringNode:
		return strconv.Quote(v.Value)
	case *ast.LiteralNode:
		return "a block of text"
	}
	return n.ast.GetToken().Value
}

// mapping is the members of a mapping; take removes those that were read.
type mapping struct {
	node
	members []member
}

type member struct {
	key   string
	value node
}

// mapping checks that n is a mapping of which every key is one of keys.
func (n node) mapping(keys ...string) (*mapping, error) {
	var pairs []*ast.MappingValueNode
	switch v := n.ast.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		return nil, n.errorf("expected a mapping with the keys %s, found %s", list(keys), n.describe())
	}
	m := &mapping{node: n}
	for _, p := range pairs {
		key, ok := p.Key.(*ast.StringNode)
		if !ok {
			return nil, node{n.file, p.Key}.errorf("key %s: expected one of %s", p.Key.GetToken().Value, list(keys))
		}
		at := node{n.file, key}
		if !slices.Contains(keys, key.Value) {
			return nil, at.errorf("unknown key %q: expected one of %s", key.Value, list(keys))
		}
		if _, ok := m.find(key.Value); ok {
			return nil, at.errorf("key %q stands here twice: remove one", key.Value)
		}
		if p.Value == nil {
			return nil, at.errorf("key %q has no value: give it one or remove it", key.Value)
		}
		if _, null := p.Value.(*ast.NullNode); null {
			return nil, at.errorf("key %q has no value: give it one or remove it", key.Value)
		}
		m.members = append(m.members, member{key.Value, node{n.file, p.Value}})
	}
	return m, nil
}

// anyMapping checks that n is a mapping with at most limit string keys, which
// the caller judges.
func (n node) anyMapping(limit int) ([]member, error) {
	var pairs []*ast.MappingValueNode
	switch v := n.ast.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		return nil, n.errorf("expected a mapping, found %s", n.describe())
	}
	if len(pairs) > limit {
		return nil, n.errorf("%d keys, more than %d", len(pairs), limit)
	}
	var keys []string
	for _, p := range pairs {
		keys = append(keys, p.Key.GetToken().Value)
	}
	m, err := n.mapping(keys...)
	if err != nil {
		return nil, err
	}
	return m.members, nil
}

func (m *mapping) find(key string) (node, bool) {
	for _, e := range m.members {
		if e.key == key {
			return e.value, true
		}
	}
	return node{}, false
}

// need is find for a key that has to be there.
func (m *mapping) need(key string) (node, error) {
	n, ok := m.find(key)
	if !ok {
		return node{}, m.errorf("%q is missing: add it", key)
	}
	return n, nil
}

// text reads a required string with a check.
func (m *mapping) text(key string, check func(string) error) (string, error) {
	n, err := m.need(key)
	if err != nil {
		return "", err
	}
	return n.text(key, check)
}

// optionalText is text for a key that may be absent, which gives "".
func (m *mapping) optionalText(key string, check func(string) error) (string, error) {
	n, ok := m.find(key)
	if !ok {
		return "", nil
	}
	return n.text(key, check)
}

func (n node) text(what string, check func(string) error) (string, error) {
	var s string
	switch v := n.ast.(type) {
	case *ast.StringNode:
		s = v.Value
	case *ast.LiteralNode:
		s = v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return "", n.errorf("%s: expected text, found %s, which YAML reads as another kind of value: write \"%s\"", what, n.describe(), n.describe())
	default:
		return "", n.errorf("%s: expected text, found %s", what, n.describe())
	}
	if err := check(s); err != nil {
		return "", n.errorf("%s: %v", what, err)
	}
	return s, nil
}

// integer reads an optional decimal integer from low to high; absent gives def.
func (m *mapping) integer(key string, def, low, high int64) (int64, error) {
	n, ok := m.find(key)
	if !ok {
		return def, nil
	}
	if _, ok := n.ast.(*ast.IntegerNode); ok {
		s := n.ast.GetToken().Value
		if v, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(v, 10) == s && v >= low && v <= high {
			return v, nil
		}
	}
	return 0, n.errorf("%s: expected a whole number from %d to %d, found %s", key, low, high, n.describe())
}

// boolean reads an optional true or false; absent gives false.
func (m *mapping) boolean(key string) (bool, error) {
	n, ok := m.find(key)
	if !ok {
		return false, nil
	}
	v, ok := n.ast.(*ast.BoolNode)
	if !ok || n.ast.GetToken().Value != "true" && n.ast.GetToken().Value != "false" {
		return false, n.errorf("%s: expected true or false, found %s", key, n.describe())
	}
	return v.Value, nil
}

// list reads an optional list of at most limit values.
func (m *mapping) list(key string, limit int) ([]node, error) {
	n, ok := m.find(key)
	if !ok {
		return nil, nil
	}
	seq, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		return nil, n.errorf("%s: expected a list, found %s", key, n.describe())
	}
	if len(seq.Values) > limit {
		return nil, n.errorf("%s: %d values, more than %d", key, len(seq.Values), limit)
	}
	var all []node
	for _, v := range seq.Values {
		if v == nil {
			return nil, n.errorf("%s: a value is empty: remove the dash", key)
		}
		all = append(all, node{n.file, v})
	}
	return all, nil
}

// texts reads an optional list of strings.
func (m *mapping) texts(key string, limit int, check func(string) error) ([]string, error) {
	nodes, err := m.list(key, limit)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, n := range nodes {
		s, err := n.text(key, check)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
