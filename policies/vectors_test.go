package policies

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/vectors"
)

// faults are mistakes in a good policy, each one alone.
func faults(t *testing.T, full string) []fault {
	pemLine := func(key []byte) string { return strings.Split(string(key), "\n")[1] }
	p, err := Parse("full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	publisher, channel, rebuilder := pemLine(p.Publishers[0].PEM()), pemLine(p.Channel.Keys[0].PEM()), pemLine(p.Rebuilders.Keys[0].PEM())
	item := func(from, to string) string { return full[strings.Index(full, from):strings.Index(full, to)] }
	log := item("  - unwitnessed", "publishers:")
	attestation := item("      - |\n        -----BEGIN PUBLIC", "    any: [pcr0]")
	root := item("      - |\n        -----BEGIN CERTIFICATE", "    any: []")
	return []fault{
		{"unknown key", "name: full", "nome: full", "nome: full", `unknown key "nome"`},
		{"unknown key deep", "maxAge: 36h", "maxage: 36h", "maxage: 36h", `unknown key "maxage" in receipt`},
		{"repeated key", "name: full", "name: full\nname: again", "name: again", "twice"},
		{"not YAML", "name: full", "name: ]full", "name: ]full", "not YAML"},
		{"version", "policy/v1", "policy/v2", "policy/v2", `"policy/v2"`},
		{"no version", "vitrine: policy/v1\n", "", "name: full", `"vitrine"`},
		{"no product", "product: hello-inference\n", "", "vitrine:", `"product"`},
		{"product is no name", "product: hello-inference", "product: Hello Inference", "product: Hello", "is not a name"},
		{"name is a number", "name: full", "name: 7", "name: 7", "expected text"},
		{"name is empty", "name: full", "name:", "name:", "has no value"},
		{"no receipt section", "receipt: {maxAge: 36h, minAge: 1h30m}\n", "", "vitrine:", `"receipt"`},
		{"no minAge", ", minAge: 1h30m", "", "receipt: {", `"minAge"`},
		{"age without unit", "maxAge: 36h", "maxAge: 36", "maxAge: 36", "expected text"},
		{"age is no duration", "maxAge: 36h", "maxAge: a day", "maxAge: a day", "24h"},
		{"age is zero", "maxAge: 36h", "maxAge: 0s", "maxAge: 0s", "longer than nothing"},
		{"age is negative", "minAge: 1h30m", "minAge: -1h", "minAge: -1h", "longer than nothing"},
		{"age is endless", "maxAge: 36h", "maxAge: 100000h", "maxAge: 100000h", "ten years"},
		{"unchecked and checked", "{maxAge: 36h, minAge: 1h30m}", `{maxAge: 36h, unchecked: "why"}`, "receipt: {", "one or the other"},
		{"unchecked without why", "{maxAge: 36h, minAge: 1h30m}", `{unchecked: ""}`, "receipt: {", "say something"},
		{"unchecked is true", "{maxAge: 36h, minAge: 1h30m}", `{unchecked: true}`, "receipt: {", "expected text"},
		{"epoch zero", "minimum: 7", "minimum: 0", "minimum: 0", "from 1 to"},
		{"epoch octal", "minimum: 7", "minimum: 07", "minimum: 07", "whole number"},
		{"epoch hex", "minimum: 7", "minimum: 0x7", "minimum: 0x7", "whole number"},
		{"epoch too large", "minimum: 7", "minimum: 9007199254740992", "minimum: 9", "whole number"},
		{"epoch float", "minimum: 7", "minimum: 7.0", "minimum: 7.0", "whole number"},
		{"threshold zero", "threshold: 1", "threshold: 0", "threshold: 0", "from 1 to 2"},
		{"threshold above", "threshold: 1", "threshold: 3", "threshold: 3", "from 1 to 2"},
		{"no channel", "channel:\n  name: stable", "kanal:\n  name: stable", "kanal:", "unknown key"},
		{"no machines", "machines: {unchecked: \"any chip\"}\n", "", "vitrine:", `"machines"`},
		{"machines with keys", `machines: {unchecked: "any chip"}`, `machines: {keys: []}`, "machines:", "unknown key"},
		{"no rules", "rules:\n", "# rules\nrulez:\n", "rulez:", "unknown key"},
		{"publisher is rebuilder", rebuilder, publisher, "rebuilders:", "roles are separate"},
		{"channel is rebuilder", rebuilder, channel, "rebuilders:", "roles are separate"},
		{"key is no key", publisher, "AAAA" + publisher[4:], "key: |", "PEM"},
		{"two keys of a name", "name: rebuilder two", "name: rebuilder one # again", "rebuilder one # again", "name them apart"},
		{"unknown platform", "platform: tpm", "platform: tdx", "platform: tdx", "sev-snp"},
		{"platform twice", "platform: sev-snp", "platform: tpm", "platform: tpm\n    isolation: none\n    minimumTCB", "twice"},
		{"isolation absent", "    isolation: none\n    minimumTCB", "    minimumTCB", "- platform: sev-snp", `"isolation"`},
		{"isolation unknown", "isolation: none\n    minimumTCB", "isolation: some\n    minimumTCB", "isolation: some", "confidential or none"},
		{"confidential TPM", "isolation: none\n    attestationKeys", "isolation: confidential\n    attestationKeys", "isolation: confidential", "the host owns it"},
		{"confidential simulation", "isolation: none\n    minimumTCB", "isolation: confidential\n    minimumTCB", "isolation: confidential", "simulated"},
		{"TPM with TCB", "isolation: none\n    attestationKeys", "isolation: none\n    minimumTCB: {}\n    attestationKeys", "minimumTCB: {}", "has not"},
		{"SNP without TCB", "    minimumTCB: {fmc: 1, bootloader: 3, tee: 0, snp: 8, microcode: 115}\n", "", "- platform: sev-snp", `"minimumTCB"`},
		{"TCB component absent", ", snp: 8", "", "minimumTCB:", `"snp"`},
		{"TCB component too large", "snp: 8", "snp: 256", "snp: 256", "from 0 to 255"},
		{"register of another platform", "any: [pcr0]", "any: [launchDigest]", "any: [launchDigest]", "no register"},
		{"image register", "    any: []\n", "    any: [launchDigest]\n", "any: [launchDigest]", "never be open"},
		{"boot register", "any: [pcr0]", "any: [pcr0, pcr4]", "any: [pcr0", "never be open"},
		{"register twice", "any: [pcr0]", "any: [pcr0, pcr0]", "any: [pcr0", "twice"},
		{"any absent", "    any: [pcr0]\n", "", "- platform: tpm", `"any"`},
		{"rule does not compile", "release.securityEpoch >= 7", "release.securityEpoch >=", "securityEpoch >=", "does not compile"},
		{"rule names no field", "release.securityEpoch", "release.epoch", "release.epoch", "undefined field"},
		{"rule is no condition", "release.securityEpoch >= 7", "release.securityEpoch", "release.securityEpoch", "true or false"},
		{"second line of a rule", "  claims.flags[\"smt\"] == false", "  clames.flags[\"smt\"] == false", "clames", "undeclared"},
		{"rules of a name", "name: no SMT", "name: epoch", "name: epoch\n    rule: |", "name them apart"},
		{"tlog-policy in quotes", "policy: |", "policy: >", "policy: >", "literal block"},
		{"unwitnessed is a word", "unwitnessed: false", "unwitnessed: maybe", "unwitnessed: maybe", "true or false"},
		{"quorum none", "      quorum both", "      quorum none", "quorum none", "unwitnessed"},
		{"unwitnessed with a quorum", "unwitnessed: false", "unwitnessed: true", "quorum both", "unwitnessed"},
		{"tlog-policy cut off", "policy: |", "policy: |-", "      # comments", "newline"},
		{"tlog-policy wrong", "      quorum both", "      kworum both", "kworum both", "kworum"},
		{"anchor", "name: full", "name: &a full", "name: &a", "anchors"},
		{"tag", "name: full", "name: !!str full", "name: !!str", "tags"},
		{"merge key", "evidence: {maxAge: 10m}", "evidence: {<<: {maxAge: 10m}}", "evidence:", "merge keys"},
		{"second document", "rules:\n", "---\nrules:\n", "---\nrules", "document marks"},
		{"list for a mapping", "epoch: {minimum: 7}", "epoch: [7]", "epoch: [7]", "mapping"},
		{"mapping for a list", "any: [pcr0]", "any: {pcr0: yes}", "any: {pcr0", "expected a list"},
		{"ages of an unwitnessed log", "unwitnessed: false", "unwitnessed: true", "receipt: {", "unwitnessed"},
		{"no log", log, "", "logs:", "has no value"},
		{"empty list of logs", "logs:\n" + log, "logs: []\n", "logs: []", "at least one log"},
		{"log twice", log, log + log, "logs:", "twice"},
		{"nine logs", log, strings.Repeat(log, 9), "logs:", "at most 8"},
		{"no publisher", item("publishers:\n", "receipt:"), "publishers: []\n", "publishers: []", "at least one key"},
		{"key in two rebuilders", pemLine(p.Rebuilders.Keys[1].PEM()), rebuilder, "- name: rebuilder two", "one key is one voice"},
		{"key under withdrawers without a name", "- name: security team\n    key", "- key", "- key: |", `"name"`},
		{"bidirectional name", "name: release team", "name: \"release \\u202emaet\"", "u202emaet", "control character"},
		{"name of two lines", "name: release team", "name: \"release\\nteam\"", "release\\nteam", "control character"},
		{"attestation key twice", attestation, attestation + attestation, attestation + "    any", "twice"},
		{"attestation key that is Ed25519", attestation, "      - |\n        -----BEGIN PUBLIC KEY-----\n        " + publisher + "\n        -----END PUBLIC KEY-----\n", "      - |\n        -----BEGIN PUBLIC", "neither an RSA nor an ECDSA key"},
		{"no attestation key", "    attestationKeys:\n" + attestation, "    attestationKeys: []\n", "attestationKeys: []", "at least one key"},
		{"root that is a key", root, attestation, attestation + "    any: []", "CERTIFICATE"},
		{"list in a list", "any: [pcr0]", "any:\n      - - pcr0", "- - pcr0", "a list directly inside a list"},
		{"empty item", "any: [pcr0]", "any:\n      -\n      - pcr0", "      -\n      - pcr0", "an item is empty"},
		{"alias", "name: full", "name: *a", "name: *a", "aliases"},
		{"explicit key", "name: full", "? name\n: full", "? name", "explicit keys"},
		{"document mark", "vitrine:", "---\nvitrine:", "---", "document marks"},
		{"directive", "vitrine:", "%YAML 1.2\n---\nvitrine:", "%YAML", "directives"},
		{"carriage return", "name: full", "name: full\r", "name: full", "control character"},
		{"control character", "name: full", "name: fu\x01ll", "name: fu", "control character"},
		{"not UTF-8", "name: full", "name: fu\xffll", "vitrine:", "UTF-8"},
		{"deep brackets", "any: [pcr0]", "any: " + strings.Repeat("[", 17) + "pcr0" + strings.Repeat("]", 17), "any: [[", "nested"},
		{"empty", full, "", "", "is empty"},
		{"only a comment", full, "# vitrine: policy/v1\n", "", "is empty"},
		{"list for the policy", full, "- vitrine: policy/v1\n", "- vitrine", "expected a mapping"},
	}
}

// A fault is a mistake, the place that must be named, and what must be said.
type fault struct {
	what     string
	old, new string // replaced once in the good policy
	at       string // begins on the line to be named, in the changed file
	says     string
}

func (f fault) vector(t *testing.T, full string) vectors.Vector {
	t.Helper()
	if f.what == "ages of an unwitnessed log" {
		full = strings.Replace(full, "quorum both", "quorum none", 1)
	}
	if !strings.Contains(full, f.old) {
		t.Fatalf("%s: no %q in the policy", f.what, f.old)
	}
	text := strings.Replace(full, f.old, f.new, 1)
	i := strings.Index(text, f.at)
	if i < 0 {
		t.Fatalf("%s: no %q in the changed policy", f.what, f.at)
	}
	v := vectors.Vector{
		Name: strings.ReplaceAll(strings.ToLower(f.what), " ", "-"), Why: f.what,
		Error: fmt.Sprintf("line %d: ", 1+strings.Count(text[:i], "\n")), Input: text,
	}
	if strings.ToValidUTF8(text, "") != text {
		v.Input, v.InputBase64 = "", []byte(text)
	}
	return v
}

// unchecked is a policy that checks as little as one may.
const uncheckedPolicy = `vitrine: policy/v1
name: "\u00abunchecked\u00bb"
product: hello-inference
logs:
  - unwitnessed: true
    policy: |
      log LOG
      quorum none
publishers: [{name: release team, key: "PUBLISHER"}]
receipt: {unchecked: nobody witnesses the log}
evidence: {maxAge: 10m}
epoch: {minimum: 1}
rebuilders: {unchecked: nobody rebuilds}
channel: {unchecked: there is none}
withdrawers: {unchecked: "nobody: the product is young"}
machines: {unchecked: 'any chip'}
platforms:
  - platform: sev-snp
    isolation: confidential
    minimumTCB: {bootloader: 0, tee: 0, snp: 0, microcode: 0}
    any: []
rules: []
`

func TestVectors(t *testing.T) {
	full := string(read(t, "testdata/full.yaml"))
	p, err := Parse("full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	unchecked := strings.NewReplacer("LOG", p.Logs[0].LogVerifierKey(),
		"PUBLISHER", strings.ReplaceAll(string(p.Publishers[0].PEM()), "\n", "\\n")).Replace(uncheckedPolicy)
	var made []vectors.Vector
	for _, good := range []struct{ name, why, text string }{
		{"full", "every key of the format", full},
		{"unchecked", "what may be left unchecked, with the reason", unchecked},
		{"comments", "comments, empty lines and keys in another order", "\n# a comment\n\nrules: [] # none\n" + strings.Replace(unchecked, "rules: []\n", "\n  # the end\n", 1)},
		{"quoted", "the same in quotes", strings.Replace(strings.Replace(unchecked, "product: hello-inference", "\"product\": 'hello-inference'", 1), "10m", `"\x31\u0030m"`, 1)},
		{"no-end-of-line", "the last line is not ended", strings.TrimSuffix(unchecked, "\n")},
	} {
		p, err := Parse(good.name, []byte(good.text))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, vectors.Vector{Name: good.name, Why: good.why, Valid: true, Input: good.text, Want: describe(p)})
	}
	says := map[string]string{}
	for _, f := range faults(t, full) {
		v := f.vector(t, full)
		made, says[v.Name] = append(made, v), f.says
	}
	vectors.Check(t, "policy", made, func(v vectors.Vector) (map[string]any, error) {
		p, err := Parse("p.yaml", v.Bytes())
		if err == nil {
			return describe(p), nil
		}
		var e *Error
		if !errors.As(err, &e) || p != nil {
			t.Fatalf("%s: a policy, or no *Error: %v, %v", v.Name, p, err)
		}
		if err.Error() != fmt.Sprintf("p.yaml:%d: %s", e.Line, e.Detail) || strings.Contains(e.Detail, "\n") {
			t.Errorf("%s: the error is not FILE:LINE: and one line: %q", v.Name, err)
		}
		if !strings.Contains(e.Detail, says[v.Name]) {
			t.Errorf("%s: the error is %q and does not say %q", v.Name, err, says[v.Name])
		}
		return nil, fmt.Errorf("line %d: %s", e.Line, e.Detail)
	})
}

// TestVectorKeys: the vectors' keys are those that testdata/vectors/README.md
// says how to make.
func TestVectorKeys(t *testing.T) {
	p, err := Parse("full.yaml", read(t, "testdata/full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]Key{
		"publisher": p.Publishers[0], "channel": p.Channel.Keys[0], "withdrawer": p.Withdrawers.Keys[0],
		"rebuilder one": p.Rebuilders.Keys[0], "rebuilder two": p.Rebuilders.Keys[1],
	} {
		want, err := statement.NewPublicKey(vectors.Key(name).Public())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(key.PEM(), want.PEM()) {
			t.Errorf("%s has another key", name)
		}
	}
	if !vectors.KeyP256("attestation").PublicKey.Equal(p.Platform("tpm").AttestationKeys[0]) {
		t.Error("the attestation key is another")
	}
}

// describe is what a policy means, in the words of the vectors.
func describe(p *Policy) map[string]any {
	keys := func(all []Key) []any {
		out := []any{}
		for _, k := range all {
			out = append(out, map[string]any{"name": k.Name, "hint": fmt.Sprintf("%x", k.Hint())})
		}
		return out
	}
	or := func(unchecked string, checked map[string]any) map[string]any {
		if unchecked != "" {
			return map[string]any{"unchecked": unchecked}
		}
		return checked
	}
	logs := []any{}
	for _, l := range p.Logs {
		logs = append(logs, map[string]any{"origin": l.Origin(), "unwitnessed": l.Unwitnessed(), "witnesses": len(l.Witnesses())})
	}
	platforms := []any{}
	for _, s := range p.Platforms {
		m := map[string]any{"platform": s.Platform, "isolation": s.Isolation, "any": append([]string{}, s.Any...)}
		switch s.Platform {
		case "tpm":
			m["attestationKeys"] = len(s.AttestationKeys)
		case "sev-snp":
			m["simulatedRoots"] = len(s.SimulatedRoots)
			m["minimumTCB"] = map[string]any{
				"fmc": s.MinimumTCB.FMC, "bootloader": s.MinimumTCB.Bootloader, "tee": s.MinimumTCB.TEE,
				"snp": s.MinimumTCB.SNP, "microcode": s.MinimumTCB.Microcode,
			}
		}
		platforms = append(platforms, m)
	}
	rules := []any{}
	for _, r := range p.Rules {
		rules = append(rules, map[string]any{"name": r.Name, "rule": r.Source})
	}
	return map[string]any{
		"name": p.Name, "product": p.Product, "logs": logs, "publishers": keys(p.Publishers),
		"receipt": or(p.Receipt.Unchecked, map[string]any{
			"maxAgeSeconds": p.Receipt.MaxAge.Seconds(), "minAgeSeconds": p.Receipt.MinAge.Seconds(),
		}),
		"evidenceMaxAgeSeconds": p.EvidenceAge.Seconds(),
		"minimumEpoch":          p.MinimumEpoch,
		"rebuilders":            or(p.Rebuilders.Unchecked, map[string]any{"threshold": p.Rebuilders.Threshold, "keys": keys(p.Rebuilders.Keys)}),
		"channel": or(p.Channel.Unchecked, map[string]any{
			"name": p.Channel.Name, "maxAgeSeconds": p.Channel.MaxAge.Seconds(), "keys": keys(p.Channel.Keys),
		}),
		"withdrawers": or(p.Withdrawers.Unchecked, map[string]any{"keys": keys(p.Withdrawers.Keys)}),
		"machines":    map[string]any{"unchecked": p.Machines.Unchecked},
		"platforms":   platforms,
		"rules":       rules,
	}
}
