package statement

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

func testKey(name string) crypto.Signer     { return vectors.Key(name) }
func testKeyP256(name string) crypto.Signer { return vectors.KeyP256(name) }

// A deterministicSigner signs by RFC 6979, so that a vector stays the same.
type deterministicSigner struct{ *ecdsa.PrivateKey }

func (s deterministicSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, opts)
}

func signDeterministic(t testing.TB, payload []byte, key crypto.Signer) []byte {
	t.Helper()
	leaf, err := Sign(payload, deterministicSigner{key.(*ecdsa.PrivateKey)})
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func publicKey(t testing.TB, signer crypto.Signer) *PublicKey {
	t.Helper()
	key, err := NewPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// digestOf makes digests that differ and are nobody's.
func digestOf(s string) Digest { return DigestOf([]byte(s)) }

func hexBytes(n int, s string) string {
	var out []byte
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256([]byte(s + strings.Repeat("+", i)))
		out = append(out, sum[:]...)
	}
	return hex.EncodeToString(out[:n])
}

func sampleRegisters(platform string) map[string]Register {
	registers := map[string]Register{}
	for _, name := range Registers(platform) {
		n, _ := RegisterBytes(platform, name)
		registers[name] = Register{OneOf: []string{hexBytes(n, platform+name)}}
	}
	return registers
}

func sampleRelease() *Statement {
	tpm := sampleRegisters("tpm")
	tpm["pcr0"] = Register{Any: "the machine's own firmware"}
	return &Statement{
		Subjects: []Subject{
			{Name: "disk.img", Digest: digestOf("disk.img")},
			{Name: "uki.efi", Digest: digestOf("uki.efi")},
		},
		Predicate: &Release{
			Product: "hello-inference", Version: "1.2.0", SecurityEpoch: 3,
			Source:  Source{URI: "https://git.example/hello-inference", Commit: hexBytes(20, "commit")},
			Recipe:  Reference{Digest: digestOf("image.yaml"), Name: "image.yaml"},
			Lock:    Reference{Digest: digestOf("image.lock"), Name: "image.lock"},
			Builder: Builder{ID: BuilderID, Version: "0.1.0"},
			Volumes: []Volume{{Name: "root", VerityRoot: hexBytes(32, "root"), SizeBytes: 41943040}},
			Measurements: []Measurement{
				{Platform: "tpm", Shape: "qemu-q35", Registers: tpm},
				{Platform: "sev-snp", Shape: "4-vcpu", Registers: sampleRegisters("sev-snp")},
			},
			NotCovered: []NotCovered{{What: "acpi-tables", Why: "the host writes them; measured boot only records that they are there"}},
		},
	}
}

func releaseID(t testing.TB) ID {
	t.Helper()
	payload, err := sampleRelease().Payload()
	if err != nil {
		t.Fatal(err)
	}
	return IDOf(payload)
}

func sampleRebuild(t testing.TB, outcome Outcome) *Statement {
	s := &Statement{
		Subjects: append(sampleRelease().Subjects, Subject{Name: ReleaseSubject, Digest: releaseID(t).Digest()}),
	}
	p := &Rebuild{
		Product: "hello-inference", Version: "1.2.0",
		Release: ReleaseRef{Digest: releaseID(t).Digest(), Index: 7},
		Builder: Builder{ID: BuilderID, Version: "0.1.0"},
		Outcome: outcome,
	}
	switch outcome {
	case NotReproduced:
		explanation := digestOf("explanation")
		p.Explanation = &explanation
		p.Got = []Reference{
			{Name: "disk.img", Digest: digestOf("another disk.img")},
			{Name: "uki.efi", Digest: digestOf("uki.efi")},
		}
	case CouldNotBuild:
		p.Reason = "linux-image-6.12.deb: the mirror answers 404"
	}
	s.Predicate = p
	return s
}

func sampleWithdrawal(t testing.TB) *Statement {
	return &Statement{
		Subjects: []Subject{
			{Name: "1.2.0", Digest: releaseID(t).Digest()},
			{Name: "uki.efi", Digest: digestOf("uki.efi")},
		},
		Predicate: &Withdrawal{
			Product:   "hello-inference",
			Registers: []RegisterValue{{Platform: "tpm", Register: "pcr11", Value: hexBytes(32, "tpmpcr11")}},
			Reason:    "the server reads prompts into its log",
			Since:     time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		},
	}
}

func sampleChannel(t testing.TB) *Statement {
	return &Statement{
		Subjects: []Subject{{Name: "1.2.0", Digest: releaseID(t).Digest()}},
		Predicate: &Channel{
			Product: "hello-inference", Channel: "stable", Sequence: 12,
			IssuedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			NotAfter: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC),
		},
	}
}
