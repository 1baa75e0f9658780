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
		"empty":            {"", "admission.yaml: "},
		"a list":           {"- a\n", "admission.yaml:1: "},
		"two documents":    {good + "---\n" + good, "admission.yaml: an admission file is one"},
		"other version":    {strings.Replace(good, "v1", "v2", 1), `admission.yaml:1: the file must say "vitrine: admission/v1"`},
		"no version":       {strings.TrimPrefix(good, "vitrine: admission/v1\n"), `admission.yaml:1: the file must say`},
		"no writers":       {"vitrine: admission/v1\n", "admission.yaml:1: name 1 to"},
		"no writer":        {"vitrine: admission/v1\nwriters: []\n", "admission.yaml:2: name 1 to"},
		"unknown key":      {head + writer("a", one, rest+"    rolls: [x]\n"), `admission.yaml:7: unknown field "rolls"`},
		"repeated key":     {head + writer("a", one, rest+"    roles: [publisher]\n"), "admission.yaml:7: mapping key"},
		"no name":          {head + writer(`""`, one, rest), "admission.yaml:3: the writer's name"},
		"name in two":      {head + writer("a", one, rest) + writer("a", two, rest), `admission.yaml:7: two writers are called "a"`},
		"key in two":       {head + writer("a", one, rest) + writer("b", one, rest), `admission.yaml:8: "a" and "b" have the same key`},
		"key that is none": {head + writer("a", "nothing", rest), `admission.yaml:4: the key of "a"`},
		"no key":           {head + "  - name: a\n" + rest, `admission.yaml:3: the key of "a"`},
		"no role":          {head + writer("a", one, "    products: [hello]\n"), `admission.yaml:3: "a" needs a role: publisher`},
		"unknown role":     {head + writer("a", one, "    roles:\n      - publisher\n      - admin\n    products: [hello]\n"), `admission.yaml:7: "admin" is no role`},
		"role twice":       {head + writer("a", one, "    roles: [publisher, publisher]\n    products: [hello]\n"), `admission.yaml:5: the role "publisher" stands twice`},
		"no products":      {head + writer("a", one, "    roles: [publisher]\n"), `admission.yaml:3: name 1 to`},
		"bad product":      {head + writer("a", one, "    roles: [publisher]\n    products: [Hello]\n"), `admission.yaml:6: "Hello" is not a product's name`},
		"product twice":    {head + writer("a", one, "    roles: [publisher]\n    products: [x, x]\n"), `admission.yaml:6: the product "x" stands twice`},
		"alias":            {head + writer("&n a", one, rest), "admission.yaml:3: an anchor is not allowed"},
		"tag":              {head + writer("!!str a", one, rest), "admission.yaml:3: a tag is not allowed"},
		"not YAML":         {"vitrine: [", "admission.yaml:1: "},
		"too long":         {"# " + strings.Repeat("x", maxAdmissionBytes), "admission.yaml: an admission file has at most"},
		"writers no list":  {"vitrine: admission/v1\nwriters: yes\n", "admission.yaml:2: "},
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
