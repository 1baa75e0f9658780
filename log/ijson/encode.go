package ijson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Marshal writes the struct v as canonical JSON (RFC 8785), by the same tags
// that [Unmarshal] reads. A nil list or map is written as an empty one.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := encoder{jsontext.NewEncoder(&buf)}
	if err := e.value(reflect.Indirect(reflect.ValueOf(v)), nil); err != nil {
		return nil, err
	}
	return Canonical(buf.Bytes())
}

type encoder struct{ out *jsontext.Encoder }

func (e encoder) token(t jsontext.Token) error {
	if err := e.out.WriteToken(t); err != nil {
		return syntaxError(err)
	}
	return nil
}

func (e encoder) value(v reflect.Value, at *place) error {
	switch x := v.Interface().(type) {
	case json.RawMessage:
		if len(x) == 0 {
			return at.errorf("no value; it is required")
		}
		if err := e.out.WriteValue(jsontext.Value(x)); err != nil {
			return syntaxError(err)
		}
		return nil
	case []byte:
		return e.token(jsontext.String(base64.StdEncoding.EncodeToString(x)))
	case time.Time:
		if x.Nanosecond() != 0 || x.Year() < 0 || x.Year() > 9999 {
			return at.errorf("%v is not a time in whole seconds; truncate it", x)
		}
		return e.token(jsontext.String(x.UTC().Format(timeLayout)))
	}
	switch v.Kind() {
	case reflect.String:
		return e.token(jsontext.String(v.String()))
	case reflect.Bool:
		return e.token(jsontext.Bool(v.Bool()))
	case reflect.Int64:
		if n := v.Int(); n > MaxInt || n < -MaxInt {
			return at.errorf("%d is beyond 2^53-1, the largest integer that every JSON reader keeps exactly", n)
		}
		return e.token(jsontext.Int(v.Int()))
	case reflect.Pointer:
		return e.value(v.Elem(), at)
	case reflect.Slice:
		return e.slice(v, at)
	case reflect.Map:
		return e.table(v, at)
	case reflect.Struct:
		return e.object(v, at)
	}
	panic("ijson: unsupported type " + v.Type().String())
}

func (e encoder) slice(v reflect.Value, at *place) error {
	if err := e.token(jsontext.BeginArray); err != nil {
		return err
	}
	for i := range v.Len() {
		if err := e.value(v.Index(i), &place{at, strconv.Itoa(i)}); err != nil {
			return err
		}
	}
	return e.token(jsontext.EndArray)
}

func (e encoder) table(v reflect.Value, at *place) error {
	if err := e.token(jsontext.BeginObject); err != nil {
		return err
	}
	// Map order does not matter: Marshal sorts members at the end.
	for iter := v.MapRange(); iter.Next(); {
		if err := e.token(jsontext.String(iter.Key().String())); err != nil {
			return err
		}
		if err := e.value(iter.Value(), &place{at, iter.Key().String()}); err != nil {
			return err
		}
	}
	return e.token(jsontext.EndObject)
}

func (e encoder) object(v reflect.Value, at *place) error {
	if err := e.token(jsontext.BeginObject); err != nil {
		return err
	}
	for _, m := range shapeOf(v.Type()).members {
		field := v.Field(m.field)
		if m.optional && empty(field) {
			continue
		}
		if err := e.token(jsontext.String(m.name)); err != nil {
			return err
		}
		if err := e.value(field, &place{at, m.name}); err != nil {
			return err
		}
	}
	return e.token(jsontext.EndObject)
}
