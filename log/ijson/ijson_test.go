package ijson

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A sample has every type that a document can have.
type sample struct {
	Text  string            `json:"text"`
	Flag  bool              `json:"flag"`
	Count int64             `json:"count"`
	Bytes []byte            `json:"bytes"`
	When  time.Time         `json:"when"`
	Raw   json.RawMessage   `json:"raw"`
	List  []string          `json:"list" ijson:"max=3"`
	Table map[string]inner  `json:"table"`
	Maybe *inner            `json:"maybe,omitempty"`
	Names []string          `json:"names,omitempty"`
	Note  string            `json:"note,omitempty"`
	Raws  []json.RawMessage `json:"raws,omitempty"`
	Open  tolerant          `json:"open"`
}

type inner struct {
	Count int64 `json:"count"`
}

type tolerant struct {
	_    struct{} `ijson:"open"`
	Name string   `json:"name"`
}

const sampleText = `{"bytes":"AAEC","count":-7,"flag":true,"list":[],"open":{"name":"n"},"raw":{"a":1},"table":{"x":{"count":1},"y":{"count":2}},"text":"hello","when":"2026-03-01T12:00:00Z"}`

func TestRoundTrip(t *testing.T) {
	var got sample
	if err := Unmarshal([]byte(sampleText), &got, 1000); err != nil {
		t.Fatal(err)
	}
	want := sample{
		Text: "hello", Flag: true, Count: -7, Bytes: []byte{0, 1, 2},
		When: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Raw: json.RawMessage(`{"a":1}`),
		List: []string{}, Table: map[string]inner{"x": {1}, "y": {2}}, Open: tolerant{Name: "n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	written, err := Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != sampleText {
		t.Errorf("wrote %s", written)
	}
	full := strings.Replace(sampleText, `"open"`, `"maybe":{"count":3},"names":["a"],"note":"n","raws":[1,"x",[]],"open"`, 1)
	if err := Unmarshal([]byte(full), &got, 1000); err != nil {
		t.Fatal(err)
	}
	if got.Maybe.Count != 3 || len(got.Names) != 1 || got.Note != "n" || len(got.Raws) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	replace := func(from, to string) string {
		if strings.Count(sampleText, from) != 1 {
			t.Fatalf("the sample has not exactly one %s", from)
		}
		return strings.Replace(sampleText, from, to, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "not JSON: there is nothing in it"},
		"white space":          {" \n", "not JSON: there is nothing in it"},
		"cut off":              {sampleText[:40], "not JSON: it ends too early"},
		"two documents":        {sampleText + sampleText, "something follows"},
		"a list":               {"[]", "want an object, have a list"},
		"missing":              {replace(`"flag":true,`, ""), `member "flag" is missing`},
		"missing within":       {replace(`"x":{"count":1}`, `"x":{}`), `/table/x: member "count" is missing`},
		"unknown":              {replace(`"flag"`, `"extra":1,"flag"`), "/extra: unknown member; the members are bytes, count"},
		"unknown within":       {replace(`"x":{`, `"x":{"extra":1,`), "/table/x/extra: unknown member"},
		"other case":           {replace(`"flag"`, `"Flag"`), "/Flag: unknown member"},
		"other case, open":     {replace(`"open":{`, `"open":{"NAME":"x",`), `/open/NAME: unknown member; "name" is spelled so`},
		"twice":                {replace(`"flag"`, `"flag":false,"flag"`), "/flag: the member stands twice"},
		"twice by escape":      {replace(`"flag"`, `"fl\u0061g":false,"flag"`), "/flag: the member stands twice"},
		"twice in a map":       {replace(`"y"`, `"x"`), "/table/x: the member stands twice"},
		"twice, raw":           {replace(`{"a":1}`, `{"a":1,"a":2}`), "/raw/a: the member stands twice"},
		"twice, open":          {replace(`"open":{`, `"open":{"z":{"a":1,"a":1},`), "/open/z/a: the member stands twice"},
		"null":                 {replace(`"hello"`, "null"), "/text: want a string, have null"},
		"null, raw":            {replace(`{"a":1}`, "null"), "/raw: null"},
		"null, list":           {replace(`[]`, "null"), "/list: want a list, have null"},
		"null, bool":           {replace(`true`, "null"), "/flag: want true or false, have null"},
		"null, int":            {replace(`-7`, "null"), "/count: want an integer, have null"},
		"null, pointer":        {replace(`"open"`, `"maybe":null,"open"`), "/maybe: want an object, have null"},
		"fraction":             {replace(`-7`, "-7.0"), "/count: -7.0 is not an integer"},
		"exponent":             {replace(`-7`, "7e0"), "/count: 7e0 is not an integer"},
		"minus zero":           {replace(`-7`, "-0"), "/count: -0 is not an integer"},
		"2^53":                 {replace(`-7`, "9007199254740992"), "beyond 2^53-1"},
		"-2^53":                {replace(`-7`, "-9007199254740992"), "beyond 2^53-1"},
		"2^64":                 {replace(`-7`, "18446744073709551616"), "is not an integer"},
		"leading zero":         {replace(`-7`, "07"), "not JSON"},
		"base64 without pad":   {replace(`AAEC`, "AAE"), "/bytes: not standard base64"},
		"base64 stray bits":    {replace(`AAEC`, "AB=="), "/bytes: not standard base64"},
		"base64 line break":    {replace(`AAEC`, `AA\nEC`), "/bytes: not standard base64"},
		"base64url":            {replace(`AAEC`, "_-__"), "/bytes: not standard base64"},
		"time with zone":       {replace(`12:00:00Z`, "12:00:00+00:00"), "/when"},
		"time with fraction":   {replace(`12:00:00Z`, "12:00:00.0Z"), "/when"},
		"time with comma":      {replace(`12:00:00Z`, "12:00:00,5Z"), "/when"},
		"time in lower case":   {replace(`2026-03-01T12:00:00Z`, "2026-03-01t12:00:00z"), "/when"},
		"a day that is not":    {replace(`2026-03-01`, "2026-02-29"), "/when"},
		"leap second":          {replace(`12:00:00Z`, "23:59:60Z"), "/when"},
		"empty list, optional": {replace(`"open"`, `"names":[],"open"`), "/names: empty; leave the member out"},
		"empty text, optional": {replace(`"open"`, `"note":"","open"`), "/note: empty; leave the member out"},
		"list element":         {replace(`[]`, `["a",1]`), "/list/1: want a string, have a number"},
		"list too long":        {replace(`[]`, `["a","b","c","d"]`), "/list: more than 3 elements"},
		"list not closed":      {replace(`[]`, `["a"`), "not JSON"},
		"bad UTF-8":            {replace(`hello`, "\xff"), "/text"},
		"lone surrogate":       {replace(`hello`, `\ud800`), "/text"},
		"comment":              {"/* x */" + sampleText, "not JSON"},
		"byte order mark":      {"\ufeff" + sampleText, "not JSON"},
		"pointer escapes":      {replace(`"flag"`, `"a/b~c":1,"flag"`), "/a~1b~0c: unknown member"},
		"deep, open":           {replace(`"open":{`, `"open":{"z":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+","), "/open/z: nested deeper than 32"},
		"fraction, open":       {replace(`"open":{`, `"open":{"z":[1.5],`), "/open/z: 1.5 is not an integer"},
		"very deep, raw":       {replace(`{"a":1}`, strings.Repeat("[", 20000)+strings.Repeat("]", 20000)), "not JSON"},
	} {
		var s sample
		err := Unmarshal([]byte(c.text), &s, 1<<20)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to name %q", name, err, c.want)
		}
	}
	var s sample
	if err := Unmarshal([]byte(sampleText), &s, len(sampleText)-1); err == nil {
		t.Error("a document over the limit is read")
	}
}

func TestOpenTolerates(t *testing.T) {
	text := strings.Replace(sampleText, `"open":{`, `"open":{"a":null,"b":[1,[true,{"c":"d"}],{}],"z":"x",`, 1)
	var s sample
	if err := Unmarshal([]byte(text), &s, 1000); err != nil || s.Open.Name != "n" {
		t.Errorf("%+v, %v", s.Open, err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(*sample){
		"bad UTF-8":     func(s *sample) { s.Text = "\xff" },
		"bad UTF-8 key": func(s *sample) { s.Table = map[string]inner{"\xff": {1}} },
		"2^53":          func(s *sample) { s.Count = 1 << 53 },
		"a fraction":    func(s *sample) { s.When = time.Unix(0, 1) },
		"year 10000":    func(s *sample) { s.When = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no raw value":  func(s *sample) { s.Raw = nil },
		"raw no JSON":   func(s *sample) { s.Raw = json.RawMessage("{") },
		"raw twice":     func(s *sample) { s.Raw = json.RawMessage(`{"a":1,"a":1}`) },
	} {
		var s sample
		if err := Unmarshal([]byte(sampleText), &s, 1000); err != nil {
			t.Fatal(err)
		}
		change(&s)
		var e *Error
		if b, err := Marshal(s); !errors.As(err, &e) {
			t.Errorf("%s: wrote %s, %v", name, b, err)
		}
	}
	b, err := Marshal(&sample{Raw: json.RawMessage("1")})
	if err != nil || !bytes.Contains(b, []byte(`"list":[]`)) || !bytes.Contains(b, []byte(`"table":{}`)) {
		t.Errorf("nil lists and maps: %s, %v", b, err)
	}
}

// TestCanonical has the example of RFC 8785 §3.2.2 and §3.2.3, as far as it is
// about strings, literals and the order of members.
func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
			`{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}`},
		{`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
	} {
		got, err := Canonical([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
		}
		if err := CheckCanonical(got); err != nil {
			t.Error(err)
		}
		if err := CheckCanonical([]byte(c.in)); err == nil {
			t.Errorf("%s is taken for canonical", c.in)
		}
	}
	if err := CheckCanonical([]byte(`{"a": 1}`)); err == nil || !strings.Contains(err.Error(), `byte 5: not in canonical form, want "1}" and have " 1}"`) {
		t.Errorf("%v", err)
	}
	if err := CheckCanonical([]byte("{}\n")); err == nil || !strings.Contains(err.Error(), "want the end") {
		t.Errorf("%v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(sampleText))
	f.Add([]byte(strings.Replace(sampleText, `"open"`, `"maybe":{"count":3},"names":["a"],"note":"n","raws":[1,"x",[]],"open"`, 1)))
	f.Add([]byte(`{"bytes":"AB==","count":1e3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sample
		if err := Unmarshal(data, &s, 1<<16); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no Error", err)
			}
			return
		}
		// Whatever this reader accepts, the lax one reads in the same way.
		var lax sample
		if err := json.Unmarshal(data, &lax); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		written, err := Marshal(s)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		laxWritten, err := Marshal(lax)
		if err != nil || !bytes.Equal(written, laxWritten) {
			t.Fatalf("read  %s\nthe lax reader read %s, %v", written, laxWritten, err)
		}
		var again sample
		if err := Unmarshal(written, &again, 1<<17); err != nil {
			t.Fatalf("read again: %v", err)
		}
	})
}
