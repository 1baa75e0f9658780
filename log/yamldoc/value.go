package yamldoc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Value is a value of a document with its place. One that is absent, and every
// one after the document's first error, reads as empty without another error.
type Value struct {
	doc  *document
	node ast.Node // nil if absent
	line int      // of its key, or of an item's beginning
	path string   // "receipt.maxAge"; "" at the top
}

// Present says whether the value is there, as an [Mapping.Optional] one need
// not be.
func (v Value) Present() bool { return v.node != nil && v.doc.err == nil }

// Err is the first error of the whole document, an [*Error], or nil.
func (v Value) Err() error {
	if v.doc.err == nil {
		return nil
	}
	return v.doc.err
}

// Name is the value's place in the document, for messages: "receipt.maxAge".
func (v Value) Name() string {
	if v.path == "" {
		return v.doc.form.Name
	}
	return v.path
}

// Errorf says what is wrong with the value. An error that the document has
// already stays.
func (v Value) Errorf(format string, args ...any) { v.doc.failf(v.line, format, args...) }

// ErrorfAt is Errorf for a line inside the value, as [Value.Block] counts them.
func (v Value) ErrorfAt(line int, format string, args ...any) { v.doc.failf(line, format, args...) }

// IsMapping says whether the value is a mapping, where a list may stand too.
func (v Value) IsMapping() bool {
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return v.Present()
	}
	return false
}

// Mapping is a mapping whose keys are known.
type Mapping struct {
	Value
	members []Member
}

// Member is a key of a mapping with its value.
type Member struct {
	Key   string
	Value Value
}

// Mapping reads a mapping that has no keys but the given ones, each at most
// once and with a value.
func (v Value) Mapping(keys ...string) Mapping {
	return v.mapping("a mapping with the keys "+list(keys), func(key string) (mend string, ok bool) {
		return "expected one of " + list(keys), slices.Contains(keys, key)
	})
}

// AnyMapping reads a mapping of at most limit string keys, which the caller
// judges.
func (v Value) AnyMapping(limit int) []Member {
	n := 0
	m := v.mapping("a mapping", func(string) (mend string, ok bool) {
		n++
		return fmt.Sprintf("at most %d keys may stand here", limit), n <= limit
	})
	return m.members
}

func (v Value) mapping(what string, known func(key string) (mend string, ok bool)) Mapping {
	m := Mapping{Value: v}
	if !v.Present() {
		return m
	}
	var pairs []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		v.Errorf("%s: expected %s, found %s", v.Name(), what, v.describe())
		return m
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		at := Value{doc: v.doc, line: lineOf(p.Key)}
		name, ok := p.Key.(*ast.StringNode)
		if !ok {
			at.Errorf("key %s in %s: expected %s of plain words", oneLine(clip(p.Key.GetToken().Value)), v.Name(), what)
			break
		}
		key := name.Value
		mend, ok := known(key)
		switch _, null := p.Value.(*ast.NullNode); {
		case !ok:
			at.Errorf("unknown key %q in %s: %s", clip(key), v.Name(), mend)
		case seen[key]:
			at.Errorf("key %q stands here twice: remove one", clip(key))
		case p.Value == nil || null:
			at.Errorf("key %q has no value: give it one or remove it", clip(key))
		}
		if v.doc.err != nil {
			break
		}
		seen[key] = true
		path := key
		if v.path != "" {
			path = v.path + "." + key
		}
		m.members = append(m.members, Member{key, Value{v.doc, p.Value, at.line, path}})
	}
	if v.doc.err != nil {
		m.members = nil
	}
	return m
}

// Members gives what the mapping has, in the order of the file.
func (m Mapping) Members() []Member { return m.members }

// Optional gives the value of a key that may be absent.
func (m Mapping) Optional(key string) Value {
	for _, e := range m.members {
		if e.Key == key {
			return e.Value
		}
	}
	return Value{doc: m.doc, line: m.line}
}

// Need gives the value of a key that has to be there. mend says what to write
// otherwise.
func (m Mapping) Need(key, mend string) Value {
	v := m.Optional(key)
	if !v.Present() {
		m.Errorf("%q is missing in %s: %s", key, m.Name(), mend)
	}
	return v
}

// List reads a list of at most limit values.
func (v Value) List(limit int) []Value {
	if !v.Present() {
		return nil
	}
	seq, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.Errorf("%s: expected a list, found %s", v.Name(), v.describe())
		return nil
	}
	if len(seq.Values) > limit {
		v.Errorf("%s: %d items: at most %d are read", v.Name(), len(seq.Values), limit)
		return nil
	}
	var all []Value
	for i, n := range seq.Values {
		if _, null := n.(*ast.NullNode); n == nil || null {
			v.Errorf("%s: an item is empty: remove the dash", v.Name())
			return nil
		}
		all = append(all, Value{v.doc, n, lineOf(n), fmt.Sprintf("%s[%d]", v.path, i)})
	}
	return all
}

// Some is List for one that needs at least one item; what names an item.
func (v Value) Some(limit int, what string) []Value {
	all := v.List(limit)
	if v.Present() && len(all) == 0 {
		v.Errorf("%s is empty: name at least one %s", v.Name(), what)
	}
	return all
}

// Text reads a string that check has no objection to.
func (v Value) Text(check func(string) error) string {
	s, _ := v.Block()
	if !v.Present() {
		return ""
	}
	if err := check(s); err != nil {
		v.Errorf("%s: %v", v.Name(), err)
		return ""
	}
	return s
}

// Texts reads a list of at most limit strings.
func (v Value) Texts(limit int, check func(string) error) []string {
	var all []string
	for _, item := range v.List(limit) {
		all = append(all, item.Text(check))
	}
	return all
}

// Block reads a string and the line of the file on which its first line stands,
// which is 0 when the string's lines are not the file's, as in a folded or
// quoted one.
func (v Value) Block() (s string, firstLine int) {
	if !v.Present() {
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
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		v.Errorf("%s: expected text, found %s, which YAML reads as another kind of value: write \"%[2]s\"", v.Name(), v.describe())
	default:
		v.Errorf("%s: expected text, found %s", v.Name(), v.describe())
	}
	return "", 0
}

// Integer reads a decimal integer from low to high. YAML's other notations are
// kept out (0x10, 0o17, 017, 1_000): two parsers have read them as two numbers
// before.
func (v Value) Integer(low, high int64) int64 {
	if !v.Present() {
		return 0
	}
	if n, ok := v.node.(*ast.IntegerNode); ok {
		s := n.Token.Value
		if i, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(i, 10) == s && i >= low && i <= high {
			return i
		}
	}
	v.Errorf("%s: expected a whole number from %d to %d, found %s", v.Name(), low, high, v.describe())
	return 0
}

// Boolean reads true or false.
func (v Value) Boolean() bool {
	if !v.Present() {
		return false
	}
	n, ok := v.node.(*ast.BoolNode)
	if !ok || n.Token.Value != "true" && n.Token.Value != "false" {
		v.Errorf("%s: expected true or false, found %s", v.Name(), v.describe())
		return false
	}
	return n.Value
}

// Digits gives what was written for a number or a string, quoted or not: YAML
// 1.1 and 1.2 disagree on what number 0755 is. It is "" for anything else.
func (v Value) Digits() string {
	if !v.Present() {
		return ""
	}
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.IntegerNode:
		return n.Token.Value
	}
	return ""
}

// describe names what is there, for "expected X, found Y".
func (v Value) describe() string {
	switch n := v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.StringNode:
		return strconv.Quote(clip(n.Value))
	case *ast.LiteralNode:
		return "a block of text"
	}
	return oneLine(clip(v.node.GetToken().Value))
}

func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
