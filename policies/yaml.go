package policies

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Error is what is wrong with a policy file, where, and what to do about it.
type Error struct {
	File   string
	Line   int // from 1
	Detail string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail) }

const (
	maxDepth = 32  // the format needs 5
	maxItems = 256 // in any list or mapping
)

// reader walks the syntax tree of a policy. It works on the tree and not by
// decoding into a struct because only the tree knows the line of a value that
// is well-formed YAML but no key, no duration or no tlog-policy. The first
// error is kept and everything after it reads as empty, so that the callers are
// straight lines.
type reader struct {
	file string
	err  *Error
}

func (r *reader) failf(line int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{File: r.file, Line: max(line, 1), Detail: fmt.Sprintf(format, args...)}
	}
}

// value is a node and the line on which its key stands.
type value struct {
	node ast.Node
	line int
	name string // path for messages: "receipt.maxAge"
}

// open parses text into the one mapping that it must be.
func (r *reader) open(text []byte) value {
	if len(text) > MaxBytes {
		r.failf(1, "the policy is longer than %d bytes; keep one product in one policy", MaxBytes)
		return value{}
	}
	if !utf8.Valid(text) {
		r.failf(1, "the policy is not UTF-8; save it as UTF-8")
		return value{}
	}
	// The parser recurses into flow collections; bounding the nesting before it
	// runs keeps a hostile file from growing its stack.
	if line := deepFlow(text); line > 0 {
		r.failf(line, "brackets are nested deeper than %d; a policy never needs that", maxDepth)
		return value{}
	}
	file, err := parse(text)
	if err != nil {
		var syntax yaml.Error
		line, detail := 1, strings.TrimSpace(err.Error())
		if errors.As(err, &syntax) {
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
			detail = syntax.GetMessage()
		}
		r.failf(line, "not YAML: %s; mend the syntax", oneLine(detail))
		return value{}
	}
	var docs []*ast.DocumentNode
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	switch {
	case len(docs) == 0:
		r.failf(1, "the policy is empty; start from one of the shipped examples")
		return value{}
	case len(docs) > 1:
		r.failf(lineOf(docs[1].Body), "a second YAML document; keep one policy in one file")
		return value{}
	}
	return value{node: docs[0].Body, line: 1, name: "the policy"}
}

// parse is parser.ParseBytes, with a panic of that library turned into the
// error that it should have been: the text may come from anybody.
func parse(text []byte) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	// A repeated key is refused by mapping, in words of ours.
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}

func deepFlow(text []byte) (line int) {
	depth, line := 0, 1
	for _, c := range text {
		switch c {
		case '\n':
			line++
		case '[', '{':
			if depth++; depth > maxDepth {
				return line
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return 0
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 1
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return lineOf(m.Values[0])
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return lineOf(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// mapping reads a mapping that has no keys but the known ones, each once.
func (r *reader) mapping(v value, known ...string) map[string]value {
	if r.err != nil {
		return nil
	}
	var entries []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		r.failf(v.line, "%s must be a mapping with the keys %s", v.name, strings.Join(known, ", "))
		return nil
	}
	if len(entries) > maxItems {
		r.failf(v.line, "%s has more than %d keys", v.name, maxItems)
		return nil
	}
	out := map[string]value{}
	for _, e := range entries {
		line := lineOf(e.Key)
		if _, ok := e.Key.(*ast.StringNode); !ok {
			r.failf(line, "%s has a key that is no plain word; anchors, merges and tags are not read", v.name)
			return nil
		}
		key := e.Key.(*ast.StringNode).Value
		if !contains(known, key) {
			r.failf(line, "unknown key %q in %s; the keys are %s", key, v.name, strings.Join(known, ", "))
			return nil
		}
		if _, twice := out[key]; twice {
			r.failf(line, "the key %q stands twice in %s; keep one", key, v.name)
			return nil
		}
		out[key] = value{node: e.Value, line: line, name: path(v.name, key)}
	}
	return out
}

func path(parent, key string) string {
	if parent == "the policy" {
		return key
	}
	return parent + "." + key
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// need returns a key of a mapping, which must be there.
func (r *reader) need(m map[string]value, in value, key, mend string) value {
	v, ok := m[key]
	if !ok && r.err == nil {
		r.failf(in.line, "%s says nothing about %q; %s", in.name, key, mend)
	}
	return v
}

// list reads a sequence. An empty one is returned as such.
func (r *reader) list(v value) []value {
	if r.err != nil {
		return nil
	}
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		r.failf(v.line, "%s must be a list", v.name)
		return nil
	}
	if len(n.Values) > maxItems {
		r.failf(v.line, "%s has more than %d items", v.name, maxItems)
		return nil
	}
	out := make([]value, len(n.Values))
	for i, item := range n.Values {
		out[i] = value{node: item, line: lineOf(item), name: fmt.Sprintf("%s[%d]", v.name, i)}
	}
	return out
}

// text reads a string of one line: what people name things by.
func (r *reader) text(v value) string {
	s, _ := r.str(v)
	if r.err != nil {
		return ""
	}
	if s == "" || len(s) > 512 || strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		r.failf(v.line, "%s must be one line of 1 to 512 bytes", v.name)
		return ""
	}
	return s
}

// str reads a string and the line of the file on which its first line stands,
// which is 0 when the string's lines are not the file's (a folded or quoted
// string).
func (r *reader) str(v value) (s string, firstLine int) {
	if r.err != nil {
		return "", 0
	}
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, 0
	case *ast.LiteralNode:
		if n.Start.Type == token.LiteralType {
			return n.Value.Value, n.Start.Position.Line + 1
		}
		return n.Value.Value, 0
	case nil, *ast.NullNode:
		r.failf(v.line, "%s is empty; write its value as a string", v.name)
	default:
		r.failf(v.line, "%s must be a string; put it in quotes", v.name)
	}
	return "", 0
}

// integer reads an integer from low to high, in decimal.
func (r *reader) integer(v value, low, high int64) int64 {
	if r.err != nil {
		return 0
	}
	if n, ok := v.node.(*ast.IntegerNode); ok && decimal(n.Token.Value) {
		switch i := n.Value.(type) {
		case int64:
			if i >= low && i <= high {
				return i
			}
		case uint64:
			if i <= uint64(high) && int64(i) >= low {
				return int64(i)
			}
		}
	}
	r.failf(v.line, "%s must be an integer from %d to %d", v.name, low, high)
	return 0
}

// decimal keeps YAML's other notations out (0x10, 0o17, 017, 1_000): two
// parsers have read them as two numbers before.
func decimal(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s == "0" || s != "" && s[0] != '0'
}

func (r *reader) boolean(v value) bool {
	if r.err != nil {
		return false
	}
	if n, ok := v.node.(*ast.BoolNode); ok {
		return n.Value
	}
	r.failf(v.line, "%s must be true or false", v.name)
	return false
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}
