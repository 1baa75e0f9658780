package statement

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// documentedRegisters reads the register table of docs/formats.md.
func documentedRegisters(t *testing.T) []registerRow {
	t.Helper()
	text, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Registers\n")
	if !ok {
		t.Fatal("docs/formats.md has no section Registers")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	code := regexp.MustCompile("`([^`]+)`")
	var rows []registerRow
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			continue
		}
		platform := code.FindStringSubmatch(cells[1])
		if platform == nil {
			continue // the head of the table
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[3]))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		mandatory := strings.TrimSpace(cells[4])
		if mandatory != "yes" && mandatory != "no" {
			t.Fatalf("%s: mandatory is %q", line, mandatory)
		}
		for _, register := range code.FindAllStringSubmatch(cells[2], -1) {
			rows = append(rows, registerRow{platform[1], register[1], n, mandatory == "yes"})
		}
	}
	return rows
}

func TestRegisterTableIsDocumented(t *testing.T) {
	if documented := documentedRegisters(t); !slices.Equal(documented, registerTable) {
		t.Errorf("docs/formats.md has %v\nthe code has %v", documented, registerTable)
	}
}

func TestRegisterLookups(t *testing.T) {
	if got := Platforms(); !slices.Equal(got, []string{"sev-snp", "tdx", "nitro", "tpm"}) {
		t.Errorf("platforms %v", got)
	}
	for _, platform := range Platforms() {
		if len(MandatoryRegisters(platform)) == 0 {
			t.Errorf("%s has no mandatory register: a statement could leave out everything", platform)
		}
	}
	if n, ok := RegisterBytes("tpm", "pcr1"); ok {
		t.Errorf("tpm has pcr1 of %d bytes", n)
	}
	if len(MandatoryRegisters("sgx"))+len(Registers("sgx")) != 0 {
		t.Error("an unknown platform has registers")
	}
}

func TestRegisterVectors(t *testing.T) {
	var table []map[string]any
	for _, r := range registerTable {
		table = append(table, map[string]any{"platform": r.platform, "register": r.register, "bytes": r.bytes, "mandatory": r.mandatory})
	}
	made := []vectors.Vector{{Name: "table", Why: "every register of every platform", Valid: true, Want: map[string]any{"registers": table}}}
	value := func(name, why, platform, register, value, names string) {
		made = append(made, vectors.Vector{
			Name: name, Why: why, Valid: names == "", Error: names,
			Given: map[string]any{"platform": platform, "register": register}, Input: value,
		})
	}
	value("value", "a value of the register's length", "sev-snp", "vmpl", "00000001", "")
	value("value-short", "a value that is not filled up", "sev-snp", "vmpl", "01", "4 bytes")
	value("value-upper-case", "upper-case hex", "sev-snp", "vmpl", "0000000A", "lower-case")
	value("value-prefix", "a value with 0x", "sev-snp", "vmpl", "0x000001", "lower-case")
	value("value-empty", "no value", "sev-snp", "vmpl", "", "4 bytes")
	value("register-unknown", "a register that is not listed", "tpm", "pcr1", hexBytes(32, "x"), "pcr1")
	value("register-case", "a register's name in other case", "tpm", "PCR4", hexBytes(32, "x"), "PCR4")
	value("platform-unknown", "a platform that is not listed", "sgx", "mrenclave", hexBytes(32, "x"), "sgx")
	vectors.Check(t, "registers", made, func(v vectors.Vector) (map[string]any, error) {
		if v.Name == "table" {
			return map[string]any{"registers": table}, nil
		}
		return nil, CheckRegister(v.String("platform"), v.String("register"), v.Input)
	})
}
