package policies

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExamples(t *testing.T) {
	names, err := fs.Glob(Examples(), "*.yaml")
	if err != nil || len(names) < 2 {
		t.Fatalf("examples: %v, %v", names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(Examples(), name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Platforms {
			if s.Isolation != hardware.Confidential || len(s.SimulatedRoots) > 0 || s.Platform == "tpm" || len(s.Any) > 0 {
				t.Errorf("%s: a shipped policy accepts %s with isolation %s, %d simulated roots, open registers %v",
					name, s.Platform, s.Isolation, len(s.SimulatedRoots), s.Any)
			}
		}
		for _, l := range p.Logs {
			if l.Unwitnessed() {
				t.Errorf("%s: a shipped policy accepts an unwitnessed log", name)
			}
		}
		golden(t, strings.TrimSuffix(name, ".yaml")+".explained", p)
	}
}

// golden holds Explain against testdata.
func golden(t *testing.T, name string, p *Policy) {
	t.Helper()
	vectors.Golden(t, filepath.Join("testdata", name), []byte(strings.Join(p.Explain(), "\n")+"\n"))
}

// TestEveryFeature reads a policy that uses every key of the format.
func TestEveryFeature(t *testing.T) {
	p, err := Parse("full.yaml", read(t, "testdata/full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.explained", p)

	if p.Receipt.MaxAge != 36*time.Hour || p.Receipt.MinAge != 90*time.Minute || p.EvidenceAge != 10*time.Minute {
		t.Errorf("ages: %+v, %s", p.Receipt, p.EvidenceAge)
	}
	if p.MinimumEpoch != 7 || p.Rebuilders.Threshold != 1 || p.Channel.Name != "stable" || p.Channel.MaxAge != 24*time.Hour {
		t.Errorf("epoch %d, threshold %d, channel %+v", p.MinimumEpoch, p.Rebuilders.Threshold, p.Channel)
	}
	if got := p.Platform("sev-snp").MinimumTCB; got != (TCB{FMC: 1, Bootloader: 3, TEE: 0, SNP: 8, Microcode: 115}) {
		t.Errorf("TCB: %+v", got)
	}
	if got := p.Platform("sev-snp"); len(got.SimulatedRoots) != 1 || got.Isolation != hardware.None {
		t.Errorf("sev-snp: %+v", got)
	}
	if got := p.Platform("tpm"); len(got.AttestationKeys) != 1 || len(got.Any) != 1 || got.Any[0] != "pcr0" {
		t.Errorf("tpm: %+v", got)
	}
	if p.Platform("tdx") != nil {
		t.Error("a platform that the policy does not name is there")
	}
	if len(p.Rules) != 2 || len(p.Logs) != 1 || p.Logs[0].Origin() != "log.example/vitrine" {
		t.Errorf("%d rules, logs %v", len(p.Rules), p.Logs)
	}
	if got := KeyNamed(p.Publishers, p.Publishers[0].PublicKey); got != "release team" {
		t.Errorf("name of a key: %q", got)
	}
}

// TestMistakes makes one mistake after the other in a good policy; each must
// be named with its line.
func TestMistakes(t *testing.T) {
	full := string(read(t, "testdata/full.yaml"))
	lineOf := func(text, of string) int {
		i := strings.Index(text, of)
		if i < 0 {
			t.Fatalf("no %q in the policy", of)
		}
		return 1 + strings.Count(text[:i], "\n")
	}
	var publisher, channelKey string
	{
		p, err := Parse("full.yaml", []byte(full))
		if err != nil {
			t.Fatal(err)
		}
		publisher = strings.Split(string(p.Publishers[0].PEM()), "\n")[1]
		channelKey = strings.Split(string(p.Channel.Keys[0].PEM()), "\n")[1]
	}
	rebuilderLine := strings.TrimSpace(strings.Split(full[strings.Index(full, "- name: rebuilder one"):], "\n")[3])

	tests := []struct {
		name     string
		old, new string // replaced once
		at       string // text on the line that must be named, in the changed file
		want     string // in the message
	}{
		{"unknown key", "name: full", "nome: full", "nome: full", `unknown key "nome"`},
		{"unknown key deep", "maxAge: 36h", "maxage: 36h", "maxage: 36h", `unknown key "maxage" in receipt`},
		{"repeated key", "name: full", "name: full\nname: again", "name: again", "twice"},
		{"not YAML", "name: full", "name: [full", "", "not YAML"},
		{"version", "policy/v1", "policy/v2", "policy/v2", `"policy/v2"`},
		{"no version", "vitrine: policy/v1\n", "", "", `"vitrine"`},
		{"no product", "product: hello-inference\n", "", "", `"product"`},
		{"product is no name", "product: hello-inference", "product: Hello Inference", "product: Hello", "is not a name"},
		{"name is a number", "name: full", "name: 7", "name: 7", "expected text"},
		{"name is empty", "name: full", "name:", "name:", "has no value"},
		{"no receipt section", "receipt: {maxAge: 36h, minAge: 1h30m}\n", "", "", `"receipt"`},
		{"no minAge", ", minAge: 1h30m", "", "receipt: {", `"minAge"`},
		{"age without unit", "maxAge: 36h", "maxAge: 36", "maxAge: 36", "expected text"},
		{"age is no duration", "maxAge: 36h", "maxAge: a day", "maxAge: a day", "24h"},
		{"age is zero", "maxAge: 36h", "maxAge: 0s", "maxAge: 0s", "longer than nothing"},
		{"age is negative", "minAge: 1h30m", "minAge: -1h", "minAge: -1h", "longer than nothing"},
		{"age is endless", "maxAge: 36h", "maxAge: 100000h", "maxAge: 100000h", "ten years"},
		{"unchecked and checked", "{maxAge: 36h, minAge: 1h30m}", `{maxAge: 36h, unchecked: "why"}`, "receipt: {", "one or the other"},
		{"unchecked without why", "{maxAge: 36h, minAge: 1h30m}", `{unchecked: ""}`, "receipt: {", "say something"},
		{"unchecked is true", "{maxAge: 36h, minAge: 1h30m}", `{unchecked: true}`, "receipt: {", "expected text"},
		{"ages of an unwitnessed log", "unwitnessed: false", "unwitnessed: true", "receipt: {", "unwitnessed"},
		{"epoch zero", "minimum: 7", "minimum: 0", "minimum: 0", "from 1 to"},
		{"epoch octal", "minimum: 7", "minimum: 07", "minimum: 07", "whole number"},
		{"epoch hex", "minimum: 7", "minimum: 0x7", "minimum: 0x7", "whole number"},
		{"epoch too large", "minimum: 7", "minimum: 9007199254740992", "minimum: 9", "whole number"},
		{"epoch float", "minimum: 7", "minimum: 7.0", "minimum: 7.0", "whole number"},
		{"threshold zero", "threshold: 1", "threshold: 0", "threshold: 0", "from 1 to 2"},
		{"threshold above", "threshold: 1", "threshold: 3", "threshold: 3", "from 1 to 2"},
		{"no channel", "channel:\n  name: stable", "kanal:\n  name: stable", "kanal:", "unknown key"},
		{"no machines", "machines: {unchecked: \"any chip\"}\n", "", "", `"machines"`},
		{"machines with keys", `machines: {unchecked: "any chip"}`, `machines: {keys: []}`, "machines:", "unknown key"},
		{"no rules", "rules:\n", "# rules\nrulez:\n", "rulez:", "unknown key"},
		{"publisher is rebuilder", rebuilderLine, publisher, "rebuilders:", "roles are separate"},
		{"channel is rebuilder", rebuilderLine, channelKey, "rebuilders:", "roles are separate"},
		{"key is no key", publisher, "AAAA" + publisher[4:], "key: |", "PEM"},
		{"two keys of a name", "name: rebuilder two", "name: rebuilder one", "", "name them apart"},
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
		{"no log", "logs:\n  - unwitnessed: false\n", "logs: []\nlugs:\n  - unwitnessed: false\n", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			full := full
			if tt.name == "ages of an unwitnessed log" {
				full = strings.Replace(full, "quorum both", "quorum none", 1)
			}
			if !strings.Contains(full, tt.old) {
				t.Fatalf("no %q in the policy", tt.old)
			}
			text := strings.Replace(full, tt.old, tt.new, 1)
			p, err := Parse("p.yaml", []byte(text))
			var e *Error
			if !errors.As(err, &e) || p != nil {
				t.Fatalf("accepted, or no *Error: %v, %v", p, err)
			}
			if tt.at != "" {
				if want := lineOf(text, tt.at); e.Line != want {
					t.Errorf("line %d is named, want %d: %v", e.Line, want, err)
				}
			}
			if !strings.Contains(e.Detail, tt.want) {
				t.Errorf("message %q does not say %q", e.Detail, tt.want)
			}
			if want := fmt.Sprintf("p.yaml:%d: ", e.Line); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %q does not begin with %q", err, want)
			}
			if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
		})
	}
}

// TestTwice: whatever would count twice may stand once.
func TestTwice(t *testing.T) {
	full := string(read(t, "testdata/full.yaml"))
	item := func(from, to string) string { return full[strings.Index(full, from):strings.Index(full, to)] }
	log := item("  - unwitnessed", "publishers:")
	rebuilder := item("    - name: rebuilder one", "    - name: rebuilder two")
	attestation := item("      - |\n        -----BEGIN PUBLIC", "    any: [pcr0]")
	for name, text := range map[string]string{
		"log":             strings.Replace(full, log, log+log, 1),
		"rebuilder":       strings.Replace(full, rebuilder, rebuilder+strings.Replace(rebuilder, "rebuilder one", "another name", 1), 1),
		"attestation key": strings.Replace(full, attestation, attestation+attestation, 1),
	} {
		if _, err := Parse("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "twice") && !strings.Contains(err.Error(), "one key is one voice") {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := strings.Replace(full, log, strings.Repeat(log, maxLogs+1), 1)
	if _, err := Parse("p.yaml", []byte(many)); err == nil || !strings.Contains(err.Error(), "at most 8") {
		t.Errorf("many logs: %v", err)
	}
	none := strings.Replace(full, log, "", 1)
	none = strings.Replace(none, "logs:\n", "logs: []\n", 1)
	if _, err := Parse("p.yaml", []byte(none)); err == nil || !strings.Contains(err.Error(), "at least one log") {
		t.Errorf("no log: %v", err)
	}
}

func TestHostileText(t *testing.T) {
	for name, text := range map[string][]byte{
		"empty":        nil,
		"too long":     bytes.Repeat([]byte("# "), MaxBytes),
		"not UTF-8":    []byte("name: \xff"),
		"deep flow":    []byte("name: " + strings.Repeat("[", 100000)),
		"deep maps":    []byte("name: " + strings.Repeat("{a: ", 100000)),
		"only comment": []byte("# nothing\n"),
		"a scalar":     []byte("policy\n"),
		"null":         []byte("null\n"),
		"aliases":      []byte("a: &a [x]\nb: [*a, *a]\n"),
		"deep block":   []byte(deepBlock()),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			if p, err := Parse("p.yaml", text); err == nil || p != nil {
				t.Errorf("accepted %v", p)
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func deepBlock() string {
	var b strings.Builder
	for i := range 400 {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func pemKey(t testing.TB) string {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := statement.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(k.PEM())
}

// TestAttestationKeys: what may stand under attestationKeys and simulatedRoots.
func TestAttestationKeys(t *testing.T) {
	full := string(read(t, "testdata/full.yaml"))
	begin := strings.Index(full, "    attestationKeys:\n")
	end := strings.Index(full, "    any: [pcr0]")
	with := func(pemText string) error {
		block := "    attestationKeys:\n      - |\n        " + strings.ReplaceAll(strings.TrimSpace(pemText), "\n", "\n        ") + "\n"
		_, err := Parse("p.yaml", []byte(full[:begin]+block+full[end:]))
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	good := public(key.Public())
	if err := with(good); err != nil {
		t.Errorf("P-256: %v", err)
	}
	// What the appraisal would refuse of every quote is refused here, once.
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := with(public(large.Public())); err == nil || !strings.Contains(err.Error(), "P-256 is accepted") {
		t.Errorf("P-384: %v", err)
	}
	modulus := func(bits uint) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return public(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
	}
	for bits, ok := range map[uint]bool{2047: false, 2048: true, 4096: true, 4097: false} {
		if err := with(modulus(bits)); (err == nil) != ok {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
	}
	if err := with(pemKey(t)); err == nil || !strings.Contains(err.Error(), "neither an RSA nor an ECDSA") {
		t.Errorf("Ed25519: %v", err)
	}
	if err := with(good + good); err == nil || !strings.Contains(err.Error(), "one PEM block") {
		t.Errorf("two blocks: %v", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := with(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))); err == nil {
		t.Error("a certificate passes for a key")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, "testdata/full.yaml"))
	names, _ := fs.Glob(Examples(), "*.yaml")
	for _, n := range names {
		b, _ := fs.ReadFile(Examples(), n)
		f.Add(b)
	}
	f.Add([]byte("vitrine: policy/v1\nname: [{"))
	f.Add([]byte("a: &a\n  <<: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("f.yaml", text)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v with error %v", p, err)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Line > 2+bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r")) {
				t.Fatalf("error %v does not name a line of the file", err)
			}
			return
		}
		// Whatever is accepted names everything that a verdict asks.
		if p.Name == "" || p.Product == "" || len(p.Logs) == 0 || len(p.Publishers) == 0 || len(p.Platforms) == 0 ||
			p.MinimumEpoch < 1 || p.EvidenceAge <= 0 || p.Machines.Unchecked == "" ||
			(p.Channel.Unchecked == "") == (len(p.Channel.Keys) == 0) ||
			(p.Rebuilders.Unchecked == "") == (p.Rebuilders.Threshold == 0) ||
			(p.Withdrawers.Unchecked == "") == (len(p.Withdrawers.Keys) == 0) ||
			(p.Receipt.Unchecked == "") == (p.Receipt.MaxAge == 0) {
			t.Fatalf("a policy that leaves something unsaid: %+v", p)
		}
	})
}
