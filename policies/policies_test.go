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
	for _, b := range vectors.Inputs(f, "policy") {
		f.Add(b)
	}
	names, _ := fs.Glob(Examples(), "*.yaml")
	for _, n := range names {
		b, _ := fs.ReadFile(Examples(), n)
		f.Add(b)
	}
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
