package ijson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// timeLayout is RFC 3339 in UTC with whole seconds and nothing else.
const timeLayout = "2006-01-02T15:04:05Z"

var (
	bytesType = reflect.TypeFor[[]byte]()
	rawType   = reflect.TypeFor[json.RawMessage]()
	timeType  = reflect.TypeFor[time.Time]()
)

// Unmarshal reads the one JSON value in data, of at most maxBytes, into the
// struct that into points to.
func Unmarshal(data []byte, into any, maxBytes int) error {
	if len(data) > maxBytes {
		return Errorf("", "the document has %d bytes; the limit is %d", len(data), maxBytes)
	}
	d := decoder{jsontext.NewDecoder(bytes.NewBuffer(data))}
	if err := d.value(reflect.ValueOf(into).Elem(), nil); err != nil {
		return err
	}
	if _, err := d.in.ReadToken(); err != io.EOF {
		return Errorf("", "byte %d: something follows the document; remove it", d.in.InputOffset())
	}
	return nil
}

// A place is the path to the value being read; it becomes text only for an error.
type place struct {
	parent *place
	name   string
}

func (p *place) String() string {
	if p == nil {
		return ""
	}
	return Join(p.parent.String(), p.name)
}

func (p *place) errorf(format string, args ...any) error {
	return Errorf(p.String(), format, args...)
}

type decoder struct{ in *jsontext.Decoder }

// value reads the next value into v, whatever its type.
func (d decoder) value(v reflect.Value, at *place) error {
	switch v.Type() {
	case rawType:
		raw, err := d.in.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		if raw.Kind() == 'n' {
			return at.errorf("null; write a value")
		}
		v.SetBytes(bytes.Clone(raw))
		return nil
	case bytesType:
		s, err := d.string(at)
		if err != nil {
			return err
		}
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		// DecodeString skips line breaks; bytes have one base64 form here.
		if err != nil || base64.StdEncoding.EncodeToString(b) != s {
			return at.errorf("not standard base64 with padding (RFC 4648 §4)")
		}
		v.SetBytes(b)
		return nil
	case timeType:
		s, err := d.string(at)
		if err != nil {
			return err
		}
		t, err := time.Parse(timeLayout, s)
		if err != nil || t.Format(timeLayout) != s {
			return at.errorf("%q is not a time; write it in UTC with whole seconds, as in %s", Clip(s), timeLayout)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		s, err := d.string(at)
		if err != nil {
			return err
		}
		v.SetString(s)
		return nil
	case reflect.Bool:
		return d.bool(v, at)
	case reflect.Int64:
		return d.int(v, at)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem(), at)
	case reflect.Slice:
		return d.slice(v, at, 0)
	case reflect.Map:
		return d.table(v, at)
	case reflect.Struct:
		return d.object(v, at)
	}
	panic("ijson: unsupported type " + v.Type().String())
}

// open reads the token that begins a value and refuses any but the wanted kind.
func (d decoder) open(want jsontext.Kind, what string, at *place) (jsontext.Token, error) {
	if k := d.in.PeekKind(); k != want && k > 0 {
		return jsontext.Token{}, at.errorf("want %s, have %s", what, describe(k))
	}
	t, err := d.in.ReadToken()
	if err != nil {
		return t, syntaxError(err)
	}
	return t, nil
}

func describe(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "a list"
	}
	return "the end of a list or object"
}

func (d decoder) string(at *place) (string, error) {
	t, err := d.open('"', "a string", at)
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

func (d decoder) bool(v reflect.Value, at *place) error {
	k := d.in.PeekKind()
	if k != 't' && k != 'f' && k > 0 {
		return at.errorf("want true or false, have %s", describe(k))
	}
	t, err := d.in.ReadToken()
	if err != nil {
		return syntaxError(err)
	}
	v.SetBool(t.Bool())
	return nil
}

func (d decoder) int(v reflect.Value, at *place) error {
	if k := d.in.PeekKind(); k != '0' && k > 0 {
		return at.errorf("want an integer, have %s", describe(k))
	}
	raw, err := d.in.ReadValue()
	if err != nil {
		return syntaxError(err)
	}
	n, bad := integer(raw)
	if bad != "" {
		return at.errorf("%s", bad)
	}
	v.SetInt(n)
	return nil
}

// integer reads a JSON number that is an integer in its shortest form; it
// returns what is wrong with it otherwise.
func integer(raw []byte) (int64, string) {
	s := string(raw)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		return 0, Clip(s) + " is not an integer in plain decimal; write it without fraction or exponent"
	}
	if n > MaxInt || n < -MaxInt {
		return 0, s + " is beyond 2^53-1, the largest integer that every JSON reader keeps exactly"
	}
	return n, ""
}

// slice reads a list of at most limit elements, any number if limit is 0.
func (d decoder) slice(v reflect.Value, at *place, limit int) error {
	if _, err := d.open('[', "a list", at); err != nil {
		return err
	}
	out := reflect.MakeSlice(v.Type(), 0, 0)
	for i := 0; d.in.PeekKind() != ']'; i++ {
		if i == limit && limit > 0 {
			return at.errorf("more than %d elements; that is the limit", limit)
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(elem, &place{at, strconv.Itoa(i)}); err != nil {
			return err
		}
		out = reflect.Append(out, elem)
	}
	if _, err := d.in.ReadToken(); err != nil {
		return syntaxError(err)
	}
	v.Set(out)
	return nil
}

func (d decoder) table(v reflect.Value, at *place) error {
	if _, err := d.open('{', "an object", at); err != nil {
		return err
	}
	out := reflect.MakeMap(v.Type())
	for d.in.PeekKind() != '}' {
		name, err := d.in.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		key := name.String()
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(elem, &place{at, key}); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(key), elem)
	}
	if _, err := d.in.ReadToken(); err != nil {
		return syntaxError(err)
	}
	v.Set(out)
	return nil
}

func (d decoder) object(v reflect.Value, at *place) error {
	if _, err := d.open('{', "an object", at); err != nil {
		return err
	}
	shape := shapeOf(v.Type())
	seen := make([]bool, len(shape.members))
	for d.in.PeekKind() != '}' {
		token, err := d.in.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		name := token.String()
		i, known := shape.index[name]
		if !known {
			if err := d.unknown(shape, name, &place{at, name}); err != nil {
				return err
			}
			continue
		}
		m := shape.members[i]
		field, here := v.Field(m.field), &place{at, name}
		if m.limit > 0 {
			err = d.slice(field, here, m.limit)
		} else {
			err = d.value(field, here)
		}
		if err != nil {
			return err
		}
		if m.optional && empty(field) {
			return here.errorf("empty; leave the member out instead")
		}
		seen[i] = true
	}
	if _, err := d.in.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for i, m := range shape.members {
		if !seen[i] && !m.optional {
			return at.errorf("member %q is missing; it is required", m.name)
		}
	}
	return nil
}

// unknown refuses a member that the struct does not name, or reads past it
// where the struct is open.
func (d decoder) unknown(shape *shape, name string, at *place) error {
	if !shape.open {
		return at.errorf("unknown member; the members are %s", strings.Join(shape.names(), ", "))
	}
	// Readers that ignore case would take this one for ours.
	for known := range shape.index {
		if strings.EqualFold(known, name) {
			return at.errorf("unknown member; %q is spelled so", known)
		}
	}
	floor := d.in.StackDepth()
	for {
		if d.in.StackDepth() > floor+maxOpenDepth {
			return at.errorf("nested deeper than %d", maxOpenDepth)
		}
		if d.in.PeekKind() == '0' {
			raw, err := d.in.ReadValue()
			if err != nil {
				return syntaxError(err)
			}
			if _, bad := integer(raw); bad != "" {
				return at.errorf("%s", bad)
			}
		} else if _, err := d.in.ReadToken(); err != nil {
			return syntaxError(err)
		}
		if d.in.StackDepth() == floor {
			return nil
		}
	}
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	}
	return v.IsZero()
}

// Clip cuts what a stranger wrote to the length that an error message has room
// for.
func Clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// A shape is what a struct type says about its object.
type shape struct {
	members []member
	index   map[string]int
	open    bool
}

type member struct {
	name     string
	field    int
	optional bool
	limit    int // of a list; 0 for none
}

func (s *shape) names() []string {
	var names []string
	for _, m := range s.members {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return names
}

var shapes sync.Map // reflect.Type to *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{index: map[string]int{}}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			s.open = s.open || f.Tag.Get("ijson") == "open"
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			panic("ijson: field " + f.Name + " of " + t.String() + " names no member")
		}
		limit := 0
		if text, ok := strings.CutPrefix(f.Tag.Get("ijson"), "max="); ok {
			var err error
			if limit, err = strconv.Atoi(text); err != nil || limit < 1 || f.Type.Kind() != reflect.Slice {
				panic("ijson: field " + f.Name + " of " + t.String() + " has a limit that is none")
			}
		}
		s.index[name] = len(s.members)
		s.members = append(s.members, member{name, i, options == "omitempty", limit})
	}
	shapes.Store(t, s)
	return s
}
