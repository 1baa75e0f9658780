package policies

import (
	"context"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func compile(t testing.TB, source string) (*Rule, error) {
	t.Helper()
	text := "vitrine: rule\nrule:\n  name: a rule\n  rule: |\n    " + strings.ReplaceAll(source, "\n", "\n    ") + "\n"
	m := yamldoc.Read("rule.yaml", []byte(text), yamldoc.Form{Name: "the rule", Version: "rule", MaxBytes: MaxBytes}, "rule")
	rule := readRule(m.Need("rule", ""))
	return rule, m.Err()
}

var sampleClaims = &hardware.Claims{
	Platform:  "sev-snp",
	Isolation: hardware.Confidential,
	Registers: map[string]string{"vmpl": "00000000"},
	TCB:       map[string]map[string]int64{"reported": {"snp": 22}},
	Flags:     map[string]bool{"smt": true},
	Facts: []hardware.Fact{
		{Name: "chipId", Value: "aa"},
		{Name: "event", Value: "signed"},
		{Name: "event", Value: "by nobody", Unverified: true},
	},
}

var sampleRelease = &statement.Statement{
	Subjects: []statement.Subject{{Name: "uki.efi", Digest: statement.Digest{SHA256: strings.Repeat("ab", 32)}}},
	Predicate: &statement.Release{
		Product: "hello", Version: "1.2.0", SecurityEpoch: 3,
		Source:     statement.Source{URI: "https://git.example/hello", Commit: strings.Repeat("0", 40)},
		Builder:    statement.Builder{ID: statement.BuilderID, Version: "0.1.0"},
		Volumes:    []statement.Volume{{Name: "model", VerityRoot: strings.Repeat("cd", 32), SizeBytes: 4096}},
		NotCovered: []statement.NotCovered{{What: "host-clock", Why: "the host sets it"}},
	},
}

func TestRuleHolds(t *testing.T) {
	tests := []struct {
		source string
		want   bool
		err    string // of evaluation
	}{
		{`true`, true, ""},
		{`claims.platform == "sev-snp" && claims.isolation == "confidential" && !claims.simulated`, true, ""},
		{`claims.registers["vmpl"] == "00000000"`, true, ""},
		{`claims.tcb["reported"]["snp"] >= 23`, false, ""},
		{`claims.flags["smt"]`, true, ""},
		{`"signed" in claims.facts["event"]`, true, ""},
		{`"by nobody" in claims.facts["event"]`, false, ""},
		{`release.source.uri.startsWith("https://git.example/")`, true, ""},
		{`release.artefacts["uki.efi"] == "` + strings.Repeat("ab", 32) + `"`, true, ""},
		{`release.volumes.exists(v, v.name == "model" && v.sizeBytes == 4096)`, true, ""},
		{`!("host-clock" in release.notCovered)`, false, ""},
		{`release.builder.version == "0.1.0" && release.version == "1.2.0" && release.product == "hello"`, true, ""},
		{`claims.flags["tsme"]`, false, "no such key"},
		{`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))`, false, "cost"},
	}
	for _, tt := range tests {
		rule, err := compile(t, tt.source)
		if err != nil {
			t.Errorf("%s: %v", tt.source, err)
			continue
		}
		got, err := rule.Holds(context.Background(), sampleClaims, sampleRelease)
		if got != tt.want || (err != nil) != (tt.err != "") {
			t.Errorf("%s: %v, %v; want %v", tt.source, got, err, tt.want)
		}
		if tt.err != "" && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %q does not say %q", tt.source, err, tt.err)
		}
	}
}

func TestRuleIsAboutReleases(t *testing.T) {
	rule, err := compile(t, "true")
	if err != nil {
		t.Fatal(err)
	}
	channel := &statement.Statement{Predicate: &statement.Channel{}}
	if ok, err := rule.Holds(context.Background(), sampleClaims, channel); ok || err == nil {
		t.Errorf("a rule holds of a channel statement: %v, %v", ok, err)
	}
}

func TestRuleIsBounded(t *testing.T) {
	for name, source := range map[string]string{
		"long":      `"` + strings.Repeat("a", maxRuleBytes) + `" == ""`,
		"deep":      strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300),
		"number":    `1`,
		"dynamic":   `dyn(true)`,
		"network":   `http.get("https://x")`,
		"assigning": `claims.platform = "tpm"`,
	} {
		if rule, err := compile(t, source); err == nil {
			t.Errorf("%s: compiled %v", name, rule)
		}
	}
}
