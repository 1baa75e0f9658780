package log

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// newKeyPEM makes a key for an admission file, as a YAML double-quoted string.
func newKeyPEM(t testing.TB) string {
	key, err := statement.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := statement.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q", public.PEM())
}

func TestParseAdmission(t *testing.T) {
	one, two := newKeyPEM(t), newKeyPEM(t)
	const head = "vitrine: admission/v1\nwriters:\n"
	good := head +
		"  - name: release team\n    key: " + one + "\n    roles: [publisher, channel]\n    products: [hello, other-product]\n" +
		"  - {name: rebuilder, key: " + two + ", roles: [rebuilder, withdrawer], products: [hello]}\n"
	a, err := ParseAdmission("admission.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Writers) != 2 || a.Writers[0].Name != "release team" || a.Writers[1].Roles[1] != RoleWithdrawer || a.Writers[0].Products[1] != "other-product" {
		t.Errorf("read %+v", a.Writers)
	}

	writer := func(name, key, rest string) string {
		return "  - name: " + name + "\n    key: " + key + "\n" + rest
	}
	const rest = "    roles: [publisher]\n    products: [hello]\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "admission.yaml:1: the admission file is empty"},
		"a list":           {"- a\n", "admission.yaml:1: "},
		"two documents":    {good + "---\n" + good, `admission.yaml:8: "---": anchors`},
		"other version":    {strings.Replace(good, "v1", "v2", 1), `admission.yaml:1: vitrine: "admission/v2" is unknown here: this program reads "admission/v1"`},
		"no version":       {strings.TrimPrefix(good, "vitrine: admission/v1\n"), `admission.yaml:1: "vitrine" is missing in the admission file: write "vitrine: admission/v1"`},
		"no writers":       {"vitrine: admission/v1\n", `admission.yaml:1: "writers" is missing`},
		"no writer":        {"vitrine: admission/v1\nwriters: []\n", "admission.yaml:2: writers is empty: name at least one writer"},
		"unknown key":      {head + writer("a", one, rest+"    rolls: [x]\n"), `admission.yaml:7: unknown key "rolls"`},
		"repeated key":     {head + writer("a", one, rest+"    roles: [publisher]\n"), `admission.yaml:7: key "roles" stands here twice`},
		"empty name":       {head + writer(`""`, one, rest), "admission.yaml:3: writers[0].name: empty"},
		"no name":          {head + "  - key: " + one + "\n" + rest, `admission.yaml:3: "name" is missing in writers[0]`},
		"name in two":      {head + writer("a", one, rest) + writer("a", two, rest), `admission.yaml:7: two writers are called "a"`},
		"key in two":       {head + writer("a", one, rest) + writer("b", one, rest), `admission.yaml:8: "a" and "b" have the same key`},
		"key that is none": {head + writer("a", "nothing", rest), `admission.yaml:4: the key of "a"`},
		"no key":           {head + "  - name: a\n" + rest, `admission.yaml:3: "key" is missing in writers[0]`},
		"no roles":         {head + writer("a", one, "    products: [hello]\n"), `admission.yaml:3: "roles" is missing in writers[0]: name its roles: publisher`},
		"no role":          {head + writer("a", one, "    roles: []\n    products: [hello]\n"), `admission.yaml:5: writers[0].roles is empty`},
		"unknown role":     {head + writer("a", one, "    roles:\n      - publisher\n      - admin\n    products: [hello]\n"), `admission.yaml:7: writers[0].roles[1]: "admin" is no role`},
		"role twice":       {head + writer("a", one, "    roles: [publisher, publisher]\n    products: [hello]\n"), `admission.yaml:5: the role "publisher" stands twice`},
		"no products":      {head + writer("a", one, "    roles: [publisher]\n"), `admission.yaml:3: "products" is missing`},
		"bad product":      {head + writer("a", one, "    roles: [publisher]\n    products: [Hello]\n"), `admission.yaml:6: writers[0].products[0]: "Hello" is not a name`},
		"product twice":    {head + writer("a", one, "    roles: [publisher]\n    products: [x, x]\n"), `admission.yaml:6: the product "x" stands twice`},
		"anchor":           {head + writer("&n a", one, rest), `admission.yaml:3: "&": anchors`},
		"tag":              {head + writer("!!str a", one, rest), `admission.yaml:3: "!!str": anchors, aliases, tags`},
		"not YAML":         {"vitrine: [", "admission.yaml:1: not YAML"},
		"too long":         {"# " + strings.Repeat("x", maxAdmissionBytes), "admission.yaml:1: 262146 bytes, more than"},
		"writers no list":  {"vitrine: admission/v1\nwriters: yes\n", "admission.yaml:2: writers: expected a list"},
	} {
		a, err := ParseAdmission("admission.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, a)
		} else if !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is\n%s\nwant it to begin with\n%s", name, err, c.want)
		}
	}
}

func FuzzParseAdmission(f *testing.F) {
	one := newKeyPEM(f)
	f.Add([]byte("vitrine: admission/v1\nwriters:\n  - {name: a, key: " + one + ", roles: [publisher], products: [hello]}\n"))
	f.Add([]byte("vitrine: admission/v1\nwriters: []\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAdmission("f", text)
		if err != nil {
			if a != nil {
				t.Error("an admission with an error")
			}
			return
		}
		if len(a.Writers) == 0 {
			t.Error("an admission of nobody was read")
		}
		for _, w := range a.Writers {
			if len(w.Roles) == 0 || len(w.Products) == 0 || w.Key == nil {
				t.Errorf("read %+v", w)
			}
		}
	})
}
