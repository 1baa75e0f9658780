package yamldoc_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/yamldoc"
)

var form = yamldoc.Form{Name: "the menu", Version: "menu/v1", MaxBytes: 64 << 10}

func short(s string) error {
	if s == "" || len(s) > 9 {
		return fmt.Errorf("%d bytes: expected 1 to 9", len(s))
	}
	return nil
}

// menu uses every kind of value.
type menu struct {
	soup    string
	price   int64
	vegan   bool
	note    string
	line    int
	mode    string
	courses []string
	rest    map[string]string
}

func readMenu(text string) (*menu, error) {
	m := yamldoc.Read("menu.yaml", []byte(text), form, "soup", "price", "vegan", "note", "mode", "courses", "rest")
	out := &menu{
		soup:    m.Need("soup", "name the soup").Text(short),
		price:   m.Optional("price").Integer(-5, 1<<53-1),
		vegan:   m.Optional("vegan").Boolean(),
		mode:    m.Optional("mode").Digits(),
		courses: m.Optional("courses").Texts(3, short),
		rest:    map[string]string{},
	}
	out.note, out.line = m.Optional("note").Block()
	for _, e := range m.Optional("rest").AnyMapping(2) {
		out.rest[e.Key] = e.Value.Text(short)
	}
	if err := m.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

func TestRead(t *testing.T) {
	got, err := readMenu(`# today
vitrine: menu/v1
soup: leek
price: -5
vegan: true
note: |

  two lines,
   the second indented
mode: 0755
courses: [one, "2", 'three']
rest: {a: b, "c d": e}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &menu{"leek", -5, true, "\ntwo lines,\n the second indented\n", 7, "0755", []string{"one", "2", "three"}, map[string]string{"a": "b", "c d": "e"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	got, err = readMenu("vitrine: menu/v1\nsoup: leek\nnote: >\n  folded\n")
	if err != nil || got.note != "folded\n" || got.line != 0 || got.price != 0 || got.vegan || got.courses != nil || got.mode != "" {
		t.Errorf("with little in it: %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	const head = "vitrine: menu/v1\nsoup: leek\n"
	for name, c := range map[string]struct {
		text string
		line int
		want string
	}{
		"empty":                {"", 1, `the menu is empty: begin it with "vitrine: menu/v1"`},
		"only a comment":       {"# nothing\n", 1, "is empty"},
		"null":                 {"null\n", 1, "the menu: expected a mapping with the keys vitrine, soup, price, vegan, note, mode, courses and rest, found nothing"},
		"a scalar":             {"menu\n", 1, `found "menu"`},
		"a list":               {"[]\n", 1, "found a list"},
		"too large":            {head + strings.Repeat("#\n", form.MaxBytes/2), 1, "more than the 65536 of the menu"},
		"not UTF-8":            {head + "note: \xff\n", 1, "UTF-8"},
		"control character":    {head + "note: \x01\n", 3, "control character 0x01"},
		"carriage return":      {head + "note: x\r\n", 3, "(LF)"},
		"broken":               {head + "note: [x\n", 3, "not YAML"},
		"no version":           {"soup: leek\n", 1, `"vitrine" is missing in the menu: write "vitrine: menu/v1"`},
		"other version":        {"vitrine: menu/v2\nsoup: leek\n", 1, `vitrine: "menu/v2" is unknown here: this program reads "menu/v1"`},
		"anchor":               {head + "note: &a x\n", 3, `"&": anchors`},
		"alias":                {head + "note: *a\n", 3, `"*": anchors, aliases`},
		"tag":                  {head + "note: !!str x\n", 3, "tags"},
		"merge key":            {head + "rest: {<<: {a: b}}\n", 3, "merge keys"},
		"explicit key":         {head + "? note\n: x\n", 3, "explicit keys"},
		"directive":            {"%YAML 1.2\n---\n" + head, 1, "directives"},
		"document mark":        {head + "---\nnote: x\n", 3, "document marks"},
		"end of a document":    {head + "...\nnote: x\n", 3, "document marks"},
		"deep brackets":        {head + "rest: " + strings.Repeat("[", 17) + strings.Repeat("]", 17) + "\n", 3, "nested more than 16 deep"},
		"deep lines":           {head + "rest:\n" + deep(200), 132, "nested more than"},
		"lists in one line":    {head + "courses:\n  - - x\n", 4, "a list directly inside a list"},
		"unknown key":          {head + "Note: x\n", 3, `unknown key "Note" in the menu: expected one of vitrine, soup,`},
		"repeated key":         {head + "note: x\nsoup: pea\n", 4, `key "soup" stands here twice: remove one`},
		"no value":             {head + "note:\n", 3, `key "note" has no value`},
		"a null":               {head + "note: ~\n", 3, `key "note" has no value`},
		"key is a number":      {head + "7: x\n", 3, "key 7 in the menu: expected"},
		"missing":              {"# first\nvitrine: menu/v1\n", 2, `"soup" is missing in the menu: name the soup`},
		"check":                {head[:len(head)-1] + " and potatoes\n", 2, "soup: 17 bytes: expected 1 to 9"},
		"number for text":      {head + "note: 1.10\n", 3, `note: expected text, found 1.10, which YAML reads as another kind of value: write "1.10"`},
		"boolean for text":     {head + "note: true\n", 3, `write "true"`},
		"infinity for text":    {head + "note: .inf\n", 3, `write ".inf"`},
		"list for text":        {head + "note: [x]\n", 3, "note: expected text, found a list"},
		"fraction":             {head + "price: 1.5\n", 3, "price: expected a whole number from -5 to 9007199254740991, found 1.5"},
		"octal":                {head + "price: 07\n", 3, "found 07"},
		"hex":                  {head + "price: 0x7\n", 3, "found 0x7"},
		"underscore":           {head + "price: 1_0\n", 3, "found 1_0"},
		"sign":                 {head + "price: +1\n", 3, "whole number"},
		"too low":              {head + "price: -6\n", 3, "found -6"},
		"too high":             {head + "price: 9007199254740992\n", 3, "found 9007199254740992"},
		"past 64 bits":         {head + "price: 99999999999999999999\n", 3, "whole number"},
		"text for a number":    {head + "price: \"7\"\n", 3, `found "7"`},
		"yes":                  {head + "vegan: yes\n", 3, `vegan: expected true or false, found "yes"`},
		"capitals":             {head + "vegan: True\n", 3, "expected true or false, found True"},
		"mapping for a list":   {head + "courses: {a: b}\n", 3, "courses: expected a list, found a mapping"},
		"block for a list":     {head + "courses: |\n  x\n", 3, "found a block of text"},
		"long list":            {head + "courses: [a, b, c, d]\n", 3, "courses: 4 items: at most 3 are read"},
		"item of another kind": {head + "courses:\n  - a\n  - 7\n", 5, "courses[1]: expected text, found 7"},
		"empty item":           {head + "courses:\n  - a\n  -\n", 3, "courses: an item is empty: remove the dash"},
		"empty item before":    {head + "courses:\n  - # none\n\n  - a\n", 4, "an item is empty: remove the dash"},
		"list below a dash":    {head + "courses:\n  -\n    - a\n", 5, "a list directly inside a list"},
		"many keys":            {head + "rest: {a: b, c: d, e: f}\n", 3, `unknown key "e" in rest: at most 2 keys may stand here`},
		"value below a key":    {head + "rest:\n  a:\n    - b\n", 4, "rest.a: expected text, found a list"},
		"the first error":      {head + "price: x\nvegan: x\n", 3, "price"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readMenu(c.text)
			var e *yamldoc.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %+v, %v, want a *yamldoc.Error", got, err)
			}
			if e.File != "menu.yaml" || e.Line != c.line || !strings.Contains(e.Detail, c.want) {
				t.Errorf("got  %v\nwant line %d and %q", e, c.line, c.want)
			}
		})
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i+1) + "a:\n")
	}
	return b.String()
}

// TestHostile: what makes the YAML library slow or deep ends soon.
func TestHostile(t *testing.T) {
	large := yamldoc.Form{Name: "the menu", Version: "menu/v1", MaxBytes: 1 << 20}
	for name, text := range map[string]string{
		"brackets":        "a: " + strings.Repeat("[", 1<<18),
		"braces":          "a: " + strings.Repeat("{a: ", 1<<16),
		"dashes":          strings.Repeat("- ", 1<<17),
		"steps":           deep(700),
		"empty items":     strings.Repeat("-\n", 1<<17),
		"items":           strings.Repeat("- x\n", 1<<16),
		"collected":       "a: [" + strings.Repeat("x,", 1<<17) + "]\n",
		"too many keys":   strings.Repeat("a: b\n", 1<<15),
		"many keys":       strings.Repeat("a: b\n", 9_999),
		"many inner keys": "a: {" + strings.Repeat("b: c, ", 9_998) + "b: c}\n",
		"question marks":  strings.Repeat("? ", 1<<17),
		"open quote":      "a: \"" + strings.Repeat("x\n", 1<<17),
		"colons":          strings.Repeat("a:", 1<<16),
		"one long string": "a: |\n" + strings.Repeat("  x\n", 1<<16),
	} {
		begin := time.Now()
		m := yamldoc.Read("menu.yaml", []byte(text), large, "a")
		if m.Err() == nil || strings.Contains(m.Err().Error(), "\n") {
			t.Errorf("%s: %v", name, m.Err())
		}
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("%s took %s", name, d)
		} else {
			t.Logf("%s: %s: %v", name, d, m.Err())
		}
	}
}

// TestAfterAnError: what is read after an error is empty, and the error stays.
func TestAfterAnError(t *testing.T) {
	m := yamldoc.Read("menu.yaml", []byte("vitrine: menu/v1\nsoup: leek\ncourses: [a]\nrest: {a: b}\n"), form, "soup", "courses", "rest")
	soup, courses, rest := m.Need("soup", ""), m.Need("courses", ""), m.Need("rest", "")
	if !rest.IsMapping() || courses.IsMapping() || soup.Name() != "soup" || m.Name() != "the menu" || len(m.Members()) != 4 {
		t.Error("the document is not read as it is")
	}
	courses.ErrorfAt(2, "there is no %s today", "leek")
	m.Errorf("another one")
	if m.Err().Error() != "menu.yaml:2: there is no leek today" || soup.Err() != m.Err() {
		t.Errorf("the error is %v", m.Err())
	}
	s, _ := soup.Block()
	if s != "" || soup.Text(short) != "" || soup.Digits() != "" || soup.Integer(0, 1) != 0 || soup.Boolean() || soup.Present() ||
		courses.List(9) != nil || courses.Some(9, "course") != nil || courses.Texts(9, short) != nil ||
		rest.IsMapping() || rest.AnyMapping(9) != nil || rest.Mapping("a").Members() != nil {
		t.Error("something is read after an error")
	}
}

func Example() {
	m := yamldoc.Read("menu.yaml", []byte("vitrine: menu/v1\nprice: 1.50\n"),
		yamldoc.Form{Name: "the menu", Version: "menu/v1", MaxBytes: 1024}, "price")
	cents := m.Need("price", "write it in cents").Integer(1, 100_000)
	fmt.Println(cents, m.Err())
	// Output: 0 menu.yaml:2: price: expected a whole number from 1 to 100000, found 1.50
}

// FuzzRead reads whatever is there as everything that it may be.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"../../builder/testdata/tiny/image.yaml", "../../policies/testdata/full.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("vitrine: menu/v1\na: &a [*a]\n"))
	f.Add([]byte("vitrine: menu/v1\n\"a\nb\": [1, ~, {c: 0x1}, \"d\\n\"]\n? e\n: f"))
	f.Add([]byte("- - - {a: "))
	f.Fuzz(func(t *testing.T, text []byte) {
		held := func(v yamldoc.Value) {
			var e *yamldoc.Error
			if err := v.Err(); err != nil && (!errors.As(err, &e) || e.Line < 1 || e.Line > 2+bytes.Count(text, []byte("\n")) || strings.Contains(e.Detail, "\n")) {
				t.Fatalf("%q: the error does not name a line of the file in one line: %q", text, err)
			}
		}
		for kind := range 7 {
			m := yamldoc.Read("f.yaml", text, form, "product", "name", "a", "kernel", "root", "logs", "rules")
			for _, e := range m.Members() {
				switch v := e.Value; kind {
				case 0:
					v.Text(short)
				case 1:
					v.Integer(0, 9)
				case 2:
					v.Boolean()
				case 3:
					v.Mapping("a", "b")
				case 4:
					for _, item := range v.List(99) {
						item.Mapping("name", "key")
						item.Block()
					}
				case 5:
					v.AnyMapping(99)
				case 6:
					v.Digits()
				}
			}
			held(m.Value)
		}
	})
}
