package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

func samples() map[string]*Evidence {
	challenge := evidence.CheckpointChallenge([]byte("a note"))
	return map[string]*Evidence{
		"a report": {Platform: evidence.SEVSNP, Challenge: challenge, Report: bytes.Repeat([]byte{1}, 1184), Release: [32]byte{2}},
		"a quote": {Platform: evidence.TPM, Challenge: challenge, Release: [32]byte{3}, Quote: &evidence.Quote{
			Attest: bytes.Repeat([]byte{4}, 145), Signature: bytes.Repeat([]byte{5}, 72),
		}},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range samples() {
		extension, err := want.Extension()
		if err != nil {
			t.Fatal(err)
		}
		if extension.Critical {
			t.Errorf("%s: the extension is critical", name)
		}
		got, err := Read(issue(t, extension))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	if _, err := Read(issue(t)); !errors.Is(err, ErrAbsent) {
		t.Errorf("without the extension: error %v", err)
	}
	extension, err := samples()["a report"].Extension()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(string) string{
		"empty":              func(string) string { return "" },
		"not JSON":           func(string) string { return "\x30\x00" },
		"a space":            func(s string) string { return " " + s },
		"trailing bytes":     func(s string) string { return s + "\n" },
		"an unknown member":  func(s string) string { return strings.Replace(s, "{", `{"a":"",`, 1) },
		"another version":    func(s string) string { return strings.Replace(s, "evidence/v1", "evidence/v2", 1) },
		"another platform":   func(s string) string { return strings.Replace(s, "sev-snp", "sev-es", 1) },
		"a report for a TPM": func(s string) string { return strings.Replace(s, "sev-snp", "tpm", 1) },
		"a nonce":            func(s string) string { return strings.Replace(s, `"challenge":"A`, `"challenge":"B`, 1) },
		"no challenge":       func(s string) string { return strings.Replace(s, `"challenge"`, `"chal"`, 1) },
		"upper case":         func(s string) string { return strings.Replace(s, `"release":"02`, `"release":"0A`, 1) },
		"a short release":    func(s string) string { return strings.Replace(s, `"release":"02`, `"release":"`, 1) },
		"release not hex":    func(s string) string { return strings.Replace(s, `"release":"02`, `"release":"0g`, 1) },
	} {
		value := change(string(extension.Value))
		if value == string(extension.Value) {
			t.Errorf("%s: the test changes nothing in %s", name, value[:100])
		}
		if _, err := Read(issue(t, pkix.Extension{Id: OID, Value: []byte(value)})); err == nil || errors.Is(err, ErrAbsent) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	huge := samples()["a report"]
	huge.Report = make([]byte, MaxBytes)
	if extension, err = huge.Extension(); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(issue(t, extension)); err == nil {
		t.Error("a certificate above the bound is read")
	}
	for name, e := range map[string]*Evidence{
		"nothing":        {},
		"neither":        {Platform: evidence.SEVSNP, Challenge: evidence.CheckpointChallenge(nil)},
		"a nonce":        {Platform: evidence.SEVSNP, Challenge: evidence.NonceChallenge([32]byte{}), Report: []byte{1}},
		"quote for SNP":  {Platform: evidence.SEVSNP, Challenge: evidence.CheckpointChallenge(nil), Quote: &evidence.Quote{}},
		"report for TPM": {Platform: evidence.TPM, Challenge: evidence.CheckpointChallenge(nil), Report: []byte{1}},
	} {
		if _, err := e.Extension(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range samples() {
		extension, err := e.Extension()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(extension.Value)
	}
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := parse(value)
		if err != nil {
			return
		}
		again, err := e.Extension()
		if err != nil || !bytes.Equal(again.Value, value) {
			t.Errorf("read %q and wrote %q: %v", value, again.Value, err)
		}
	})
}

// issue makes a certificate with the extensions, as a peer would send it.
func issue(t *testing.T, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
