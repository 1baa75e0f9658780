package hardware_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

//go:generate go test -run TestRejectionsPage -update .

const root = "../.."

// namespaces are the first parts of codes, in the order of the page, each with
// who refuses there.
var namespaces = []struct{ name, title, about string }{
	{"hardware/sev-snp", "AMD SEV-SNP", "The evidence is an attestation report of AMD SEV-SNP."},
	{"hardware/tpm", "TPM", "The evidence is a quote of a TPM 2.0."},
	{"hardware", "Any platform", "Whatever the platform."},
	{"binding", "Binding", "The evidence is genuine; is it about this connection?"},
	{"registers", "Registers", "Is what was measured what was released?"},
	{"statement", "Statement", "Who said what was released?"},
	{"receipt", "Receipt", "Is it in a log that others watch?"},
	{"current", "Currentness", "Is it still what should run?"},
	{"rebuild", "Rebuilds", "Did others get the same bits from source?"},
	{"machines", "Machines", "Does somebody vouch for this machine?"},
	{"rules", "Rules", "The policy's own rules."},
	{"policy", "Policy", "What the policy demands at all."},
	{"evidence", "Evidence document", "The document that a node serves."},
	{"node", "Node", "What a node answers instead of evidence."},
	{"connection", "Connection", "What a connection is refused for."},
}

func namespaceOf(c hardware.Code) string {
	dir, _ := filepath.Split(string(c))
	return strings.TrimSuffix(dir, "/")
}

func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(/[a-z0-9]+(-[a-z0-9]+)*)+$`)
	known := map[string]bool{}
	for _, n := range namespaces {
		known[n.name] = true
	}
	seen := map[hardware.Code]bool{}
	used := map[string]bool{}
	causes := map[string]hardware.Code{}
	for _, c := range hardware.Codes() {
		if seen[c.Code] {
			t.Errorf("%s stands twice in the list", c.Code)
		}
		seen[c.Code] = true
		if !form.MatchString(string(c.Code)) {
			t.Errorf("%q is not words in lower case with hyphens between slashes", c.Code)
		}
		if !known[namespaceOf(c.Code)] {
			t.Errorf("%s is in no known namespace", c.Code)
		}
		used[namespaceOf(c.Code)] = true
		for what, sentence := range map[string]string{"cause": c.Cause, "mend": c.Mend} {
			if len(sentence) < 10 || !strings.HasSuffix(sentence, ".") || strings.ToUpper(sentence[:1]) != sentence[:1] || strings.ContainsAny(sentence, "\n|") {
				t.Errorf("%s: the %s is not a sentence on one line: %q", c.Code, what, sentence)
			}
		}
		if other, ok := causes[c.Cause]; ok {
			t.Errorf("%s and %s have one cause: nobody could tell them apart", c.Code, other)
		}
		causes[c.Cause] = c.Code
		if info, ok := c.Code.Info(); !ok || info != c {
			t.Errorf("%s is not found by its code", c.Code)
		}
	}
	for n := range known {
		if !used[n] {
			t.Errorf("the namespace %s has no code", n)
		}
	}
	if _, ok := hardware.Code("hardware/no-such").Info(); ok {
		t.Error("a code that is not in the list is found in it")
	}
	hardware.Codes()[0].Code = "changed"
	if hardware.Codes()[0].Code == "changed" {
		t.Error("a caller can change the list")
	}
}

// literals calls use with each string in the module's Go files that reads like a
// code, and says whether it stands in a test.
func literals(t *testing.T, use func(at string, code hardware.Code, inTest bool)) {
	t.Helper()
	var names []string
	for _, n := range namespaces {
		names = append(names, regexp.QuoteMeta(n.name))
	}
	code := regexp.MustCompile(`^(` + strings.Join(names, "|") + `)(/[a-z0-9]+(-[a-z0-9]+)*)+$`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || path != root && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasPrefix(d.Name(), "codes_") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if _, ok := n.(*ast.ImportSpec); ok {
				return false
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && code.MatchString(s) {
					use(set.Position(lit.Pos()).String(), hardware.Code(s), strings.HasSuffix(path, "_test.go"))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// No code of the module names a reason that is not in the list, and the list
// has none that no test expects: a reason that nothing provokes is a promise
// that nothing keeps.
func TestCodesInUse(t *testing.T) {
	// Literals of the same look that are something else.
	other := map[hardware.Code]bool{"policy/v1": true, "evidence/v1": true}
	uses := 0
	expected := map[hardware.Code]bool{}
	literals(t, func(at string, code hardware.Code, inTest bool) {
		if inTest {
			expected[code] = true
			return
		}
		if other[code] {
			return
		}
		uses++
		if _, ok := code.Info(); !ok {
			t.Errorf("%s: %q is not in the list of codes", at, code)
		}
	})
	if uses < 50 {
		t.Errorf("only %d codes were found in the module's source: this test looks in the wrong place", uses)
	}
	for _, c := range hardware.Codes() {
		// These two packages' own tests provoke each of theirs.
		if n := namespaceOf(c.Code); n == "hardware/sev-snp" || n == "hardware/tpm" {
			continue
		}
		if !expected[c.Code] {
			t.Errorf("no test expects %s", c.Code)
		}
	}
}

func page() []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from the tables in verifier/hardware by "go generate ./verifier/hardware". -->

# Rejections

Every reason for which Vitrine says no, with what happened and what to do. The list is closed: a refusal has exactly one of these codes and a detail about the case at hand. Codes keep their meaning for ever. ` + "`vitrine rejections --json`" + ` prints the same list for programs.

`)
	for _, n := range namespaces {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n| code | what happened | what to do |\n| --- | --- | --- |\n", n.title, n.about)
		for _, c := range hardware.Codes() {
			if namespaceOf(c.Code) == n.name {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Code, c.Cause, c.Mend)
			}
		}
		b.WriteString("\n")
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func TestRejectionsPage(t *testing.T) {
	vectors.Golden(t, filepath.Join(root, "docs", "rejections.md"), page())
}

// registerTable reads the table of docs/formats.md: platform to register to
// length in bytes.
func registerTable(t *testing.T) map[string]map[string]int {
	t.Helper()
	formats, err := os.ReadFile(filepath.Join(root, "docs", "formats.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(formats), "\n## Registers\n")
	if !ok {
		t.Fatal("docs/formats.md has no section about registers")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]map[string]int{}
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		platform := quoted.FindStringSubmatch(cells[1])
		bytes, err := strconv.Atoi(strings.TrimSpace(cells[3]))
		if platform == nil || err != nil {
			continue
		}
		for _, name := range quoted.FindAllStringSubmatch(cells[2], -1) {
			if table[platform[1]] == nil {
				table[platform[1]] = map[string]int{}
			}
			table[platform[1]][name[1]] = bytes
		}
	}
	return table
}

// What is claimed is exactly what docs/formats.md lists.
func TestRegisters(t *testing.T) {
	table := registerTable(t)
	for platform, claims := range map[string]*hardware.Claims{
		hardware.SEVSNP: sevsnpClaims(t),
		hardware.TPM:    tpmClaims(t),
	} {
		if claims.Platform != platform {
			t.Errorf("claims of %s say platform %s", platform, claims.Platform)
		}
		want := table[platform]
		if len(want) == 0 {
			t.Errorf("docs/formats.md has no register of %s", platform)
		}
		for name, size := range want {
			value, err := hex.DecodeString(claims.Registers[name])
			if err != nil || len(value) != size || claims.Registers[name] != strings.ToLower(claims.Registers[name]) {
				t.Errorf("%s: the claimed %s is %q; docs/formats.md wants %d bytes in lower-case hex", platform, name, claims.Registers[name], size)
			}
		}
		for name := range claims.Registers {
			if want[name] == 0 {
				t.Errorf("%s: the claimed register %s is not in docs/formats.md", platform, name)
			}
		}
	}
}
