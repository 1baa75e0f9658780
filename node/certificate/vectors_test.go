package certificate

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

func TestVectors(t *testing.T) {
	challenge := evidence.CheckpointChallenge([]byte("log.example/vitrine\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"))
	value := func(e *Evidence) string {
		t.Helper()
		extension, err := e.Extension()
		if err != nil {
			t.Fatal(err)
		}
		return string(extension.Value)
	}
	snp := value(&Evidence{Platform: evidence.SEVSNP, Challenge: challenge, Report: bytes.Repeat([]byte{1}, 1184), Release: [32]byte{2}})
	tpm := value(&Evidence{Platform: evidence.TPM, Challenge: challenge, Release: [32]byte{3}, Quote: &evidence.Quote{
		Attest: bytes.Repeat([]byte{4}, 145), Signature: bytes.Repeat([]byte{5}, 72),
	}})
	tdx := value(&Evidence{Platform: evidence.TDX, Challenge: challenge, Report: bytes.Repeat([]byte{6}, 1020), Release: [32]byte{7}})
	made := []vectors.Vector{
		accept(t, "sev-snp", "a report", snp),
		accept(t, "tdx", "a report of another platform", tdx),
		accept(t, "tpm", "a quote", tpm),
	}
	for _, c := range []struct{ name, why, names, of, old, new string }{
		{"empty", "nothing at all", "not JSON", snp, snp, ""},
		{"asn1", "a layer of ASN.1 around the JSON", "not JSON", snp, "{", "\x04\x7f{"},
		{"white-space", "a space before a member", "not in canonical form", snp, `{"`, `{ "`},
		{"trailing", "a newline at the end", "not in canonical form", snp, `"}`, "\"}\n"},
		{"member-order", "members in another order", "not in canonical form", snp, `"platform":"sev-snp","release":"02` + strings.Repeat("0", 62) + `"`, `"release":"02` + strings.Repeat("0", 62) + `","platform":"sev-snp"`},
		{"duplicate", "a member that stands twice", "/platform: the member stands twice", snp, `"platform":"sev-snp"`, `"platform":"sev-snp","platform":"sev-snp"`},
		{"unknown-member", "a member that the format does not have", "/a: unknown member", snp, "{", `{"a":"",`},
		{"format", "another version", "/format", snp, "evidence/v1", "evidence/v2"},
		{"format-missing", "no format", `"format" is missing`, snp, `"format":"` + Format + `",`, ""},
		{"platform-unknown", "a platform that there is not", "/platform", snp, "sev-snp", "sev-es"},
		{"report-for-tpm", "a report for a TPM", "has a quote", snp, "sev-snp", "tpm"},
		{"quote-for-sev-snp", "a quote for SEV-SNP", "has a report", tpm, `"tpm"`, `"sev-snp"`},
		{"report-missing", "neither report nor quote", "has a report", snp, snp[strings.Index(snp, `,"report"`):], "}"},
		{"challenge-nonce", "a challenge by nonce", "/challenge", snp, `"challenge":"A`, `"challenge":"B`},
		{"challenge-missing", "no challenge", `"challenge" is missing`, snp, snp[1:strings.Index(snp, `"format"`)], ""},
		{"challenge-short", "a challenge of 30 bytes", "/challenge", snp, snp[len(`{"challenge":"`) : len(`{"challenge":"`)+4], ""},
		{"challenge-base64url", "base64 for URLs", "/challenge", snp, snp[len(`{"challenge":"`) : len(`{"challenge":"`)+4], "AA_-"},
		{"release-case", "upper-case hex", "/release", snp, `"release":"02`, `"release":"0A`},
		{"release-short", "a leaf hash of 31 bytes", "/release", snp, `"release":"02`, `"release":"`},
		{"release-not-hex", "a leaf hash that is not hex", "/release", snp, `"release":"02`, `"release":"0g`},
		{"release-missing", "no leaf hash", `"release" is missing`, tpm, `,"release":"03` + strings.Repeat("0", 62) + `"`, ""},
		{"null", "null in place of a value", "/report", snp, snp[strings.Index(snp, `"report":`):], `"report":null}`},
	} {
		input := strings.Replace(c.of, c.old, c.new, 1)
		if input == c.of {
			t.Fatalf("%s: nothing is changed", c.name)
		}
		made = append(made, vectors.Vector{Name: c.name, Why: c.why, Error: c.names, Input: input})
	}
	vectors.Check(t, "certificate", made, func(v vectors.Vector) (map[string]any, error) {
		e, err := parse(v.Bytes())
		if err != nil {
			return nil, err
		}
		return describe(e), nil
	})
}

func accept(t *testing.T, name, why, input string) vectors.Vector {
	t.Helper()
	e, err := parse([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return vectors.Vector{Name: name, Why: why, Valid: true, Input: input, Want: describe(e)}
}

func describe(e *Evidence) map[string]any {
	want := map[string]any{
		"platform": e.Platform, "challenge": hex.EncodeToString(e.Challenge[:]), "release": hex.EncodeToString(e.Release[:]),
	}
	if e.Report != nil {
		want["report"] = hex.EncodeToString(e.Report)
	}
	if e.Quote != nil {
		want["attest"], want["signature"] = hex.EncodeToString(e.Quote.Attest), hex.EncodeToString(e.Quote.Signature)
	}
	return want
}
