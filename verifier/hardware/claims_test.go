package hardware_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sevsnpClaims(t *testing.T) *hardware.Claims {
	t.Helper()
	chip, err := simulated.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	report, err := chip.Report(simulated.Report{})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := sevsnp.Verify(report, chip.Endorsements(), sevsnp.Options{
		Now: now, SimulatedRoots: []*x509.Certificate{chip.ARK}, MinimumTCB: &sevsnp.TCB{}})
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func tpmClaims(t *testing.T) *hardware.Claims {
	t.Helper()
	chip, err := simulated.NewTPM(elliptic.P256())
	if err != nil {
		t.Fatal(err)
	}
	values := map[int][32]byte{}
	for _, i := range tpm.MandatoryPCRs() {
		values[i] = [32]byte{byte(i)}
	}
	e, err := chip.Quote(make([]byte, 32), values)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := tpm.Verify(e, tpm.Options{AttestationKeys: []crypto.PublicKey{chip.Key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// What a person reads with --json is what a rule of a policy sees.
func TestClaimsJSON(t *testing.T) {
	b, err := json.Marshal(tpmClaims(t))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if m["platform"] != "tpm" || m["isolation"] != "none" || m["simulated"] != false {
		t.Errorf("claims as JSON: %s", b)
	}
	if flags, ok := m["flags"].(map[string]any); !ok || flags["clockSafe"] != true {
		t.Errorf("claims as JSON: %s", b)
	}
}

func TestFact(t *testing.T) {
	c := &hardware.Claims{Facts: []hardware.Fact{{Name: "event", Value: "1"}, {Name: "event", Value: "2", Unverified: true}}}
	if f, ok := c.Fact("event"); !ok || f.Value != "1" {
		t.Errorf("Fact = %+v, %v", f, ok)
	}
	if f, ok := c.Fact("other"); ok || f != (hardware.Fact{}) {
		t.Errorf("Fact of an absent name = %+v, %v", f, ok)
	}
}

// What a refusal quotes moves no cursor and turns no text around.
func TestRefuseIsPrintable(t *testing.T) {
	r := hardware.Refuse("node/bad-answer", "it said %s", "\x1b[2Jverified\r\n\u202e\u200b\xff é…")
	if want := "it said \ufffd[2Jverified\ufffd\ufffd\ufffd\ufffd\ufffd é…"; r.Detail != want {
		t.Errorf("detail %q, want %q", r.Detail, want)
	}
}

// A refusal carries a code to decide on, and the list says what it means.
func Example() {
	_, err := sevsnp.Verify([]byte("not a report"), nil, sevsnp.Options{
		Now: now, BuiltInRoots: true, MinimumTCB: &sevsnp.TCB{}})
	var r *hardware.Rejection
	if errors.As(err, &r) {
		info, _ := r.Code.Info()
		fmt.Println(r.Code)
		fmt.Println(r.Detail)
		fmt.Println(info.Mend)
	}
	// Output:
	// hardware/sev-snp/report-size
	// the report has 12 bytes, not 1184
	// Send the report alone, as the firmware returned it, without header or padding.
}
