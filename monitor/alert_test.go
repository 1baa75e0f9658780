package monitor

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

//go:generate go test -run TestAlertsPage -update .

var update = flag.Bool("update", false, "write the list of alerts in docs/monitor.md anew")

const page = "../docs/monitor.md"

// TestCodes holds the list to its form, and to the constants.
func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^monitor/[a-z]+(-[a-z]+)*$`)
	seen, causes := map[Code]bool{}, map[string]bool{}
	for _, c := range Codes() {
		if seen[c.Code] || causes[c.Cause] || !form.MatchString(string(c.Code)) {
			t.Errorf("%s or its cause stands twice, or has not the form of a code", c.Code)
		}
		seen[c.Code], causes[c.Cause] = true, true
		for _, sentence := range []string{c.Cause, c.Mend} {
			if len(sentence) < 20 || !strings.HasSuffix(sentence, ".") || strings.ContainsAny(sentence, "\n|") {
				t.Errorf("%s: %q are not sentences on one line", c.Code, sentence)
			}
		}
		if info, ok := c.Code.Info(); !ok || info != c {
			t.Errorf("%s is not found", c.Code)
		}
	}
	if _, ok := Code("monitor/unheard-of").Info(); ok {
		t.Error("a code that is not in the list is found")
	}
	Codes()[0].Cause = "" // the caller's own
	if codes[0].Cause == "" {
		t.Error("the list can be changed from outside")
	}

	constants := map[Code]string{}
	file, err := parser.ParseFile(token.NewFileSet(), "alert.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Code" {
			value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			constants[Code(value)] = v.Names[0].Name
		}
		return true
	})
	for code, name := range constants {
		if !seen[code] {
			t.Errorf("%s is not in the list", name)
		}
	}
	if len(constants) != len(seen) {
		t.Errorf("there are %d constants and %d codes", len(constants), len(seen))
	}
	// Each is provoked by a test: it is expected by name somewhere in them.
	var tests strings.Builder
	entries, err := fs.Glob(os.DirFS("."), "*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range entries {
		if name == "alert_test.go" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	for code, name := range constants {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(tests.String()) {
			t.Errorf("no test provokes %s", code)
		}
	}
}

// TestAlertsPage holds the page's list to the code's.
func TestAlertsPage(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- alerts -->\n", "<!-- end of alerts -->"
	head, rest, ok1 := strings.Cut(string(b), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the list", page)
	}
	want := "| code | what happened | what to do |\n| --- | --- | --- |\n"
	for _, c := range Codes() {
		want += fmt.Sprintf("| `%s` | %s | %s |\n", c.Code, c.Cause, c.Mend)
	}
	if *update {
		if err := os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("%s has another list than the code; run: go generate ./monitor", page)
	}
	// What the page says in numbers.
	for what, value := range map[string]string{
		"releases": "10,000", "withdrawn": "100,000", "alerts": "32", "tries": "seven times",
	} {
		if !strings.Contains(string(b), value) {
			t.Errorf("the page does not say %s: %s", what, value)
		}
	}
	if maxReleases != 10_000 || maxWithdrawn != 100_000 || maxAlerts != 32 || maxTries != 7 {
		t.Error("a bound has changed; mend the page and this test")
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"words":                        "words",
		"two\nlines\tand more":         "two lines and more",
		"\x1b[31mred\x00":              "?[31mred?",
		"turned \u202eround\u2066":     "turned ?round?",
		"hidden\u200b\ufeff":           "hidden??",
		"bad \xff utf-8":               "bad ? utf-8",
		"é ü 日本":                       "é ü 日本",
		strings.Repeat("x", 1024):      strings.Repeat("x", 1024),
		strings.Repeat("x", 1025):      strings.Repeat("x", 1021) + "…",
		"a" + strings.Repeat("é", 600): "a" + strings.Repeat("é", 510) + "…",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q becomes %q, not %q", in, got, want)
		}
	}
}
