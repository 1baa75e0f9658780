package simulated_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A test makes a chip, has it sign a report, and verifies that under the chip's
// own root.
func Example() {
	chip, err := simulated.NewAMD(now)
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := chip.Report(simulated.Report{ReportData: [64]byte{1, 2, 3}})
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := sevsnp.Verify(report, chip.Endorsements(), sevsnp.Options{
		Now:            now,
		SimulatedRoots: []*x509.Certificate{chip.ARK},
		MinimumTCB:     &sevsnp.TCB{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(claims.Platform, claims.Simulated, claims.Isolation, claims.UserData[:3])
	// Output: sev-snp true none [1 2 3]
}

func TestSaysSimulated(t *testing.T) {
	chip, err := simulated.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{chip.ARK, chip.ASK, chip.Endorsement} {
		if !slices.Contains(c.Subject.Organization, "SIMULATED") {
			t.Errorf("the subject %q does not say SIMULATED", c.Subject)
		}
	}
	if !bytes.Contains(chip.RootPEM(), []byte("BEGIN CERTIFICATE")) {
		t.Error("the root is not PEM")
	}
}

// The report is the structure that the library of another project reads.
func TestReportFields(t *testing.T) {
	chip, err := simulated.NewChip(now, simulated.Chip{Product: "Genoa-B1", ID: [64]byte{7}, TCB: sevsnp.TCB{Bootloader: 9, TEE: 8, SNP: 7, Microcode: 6}})
	if err != nil {
		t.Fatal(err)
	}
	r := simulated.Report{Version: 3, GuestSVN: 5, GuestPolicy: 0xb0000 &^ (1 << 19), VMPL: 2, PlatformInfo: 3,
		ReportData: [64]byte{1}, LaunchDigest: [48]byte{2}, HostData: [32]byte{3}, IDKeyDigest: [48]byte{4}, AuthorKeyDigest: [48]byte{5}}
	raw, err := chip.Report(r)
	if err != nil {
		t.Fatal(err)
	}
	p, err := abi.ReportToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != 3 || p.GuestSvn != 5 || p.Policy != r.GuestPolicy || p.Vmpl != 2 || p.PlatformInfo != 3 ||
		!bytes.Equal(p.ReportData, r.ReportData[:]) || !bytes.Equal(p.Measurement, r.LaunchDigest[:]) || !bytes.Equal(p.HostData, r.HostData[:]) ||
		!bytes.Equal(p.IdKeyDigest, r.IDKeyDigest[:]) || !bytes.Equal(p.AuthorKeyDigest, r.AuthorKeyDigest[:]) ||
		p.ReportedTcb != 0x0607000000000809 || !bytes.Equal(p.ChipId, chip.Chip.ID[:]) || p.Cpuid1EaxFms != 0x00a10f11 {
		t.Errorf("the library reads %v", p)
	}
}

func TestRefusesNonsense(t *testing.T) {
	if _, err := simulated.NewChip(now, simulated.Chip{Product: "Rome-B0"}); err == nil {
		t.Error("a chip without SEV-SNP was made")
	}
	chip, err := simulated.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.Sign(make([]byte, 10)); err == nil {
		t.Error("ten bytes were signed as a report")
	}
}

func TestTPM(t *testing.T) {
	for _, make := range []func() (*simulated.TPM, error){
		func() (*simulated.TPM, error) { return simulated.NewTPM(elliptic.P256()) },
		func() (*simulated.TPM, error) { return simulated.NewRSATPM(2048) },
	} {
		chip, err := make()
		if err != nil {
			t.Fatal(err)
		}
		events := []simulated.Event{{PCR: 4, Type: 13, Digest: [32]byte{1}}}
		values := simulated.Replay(events)
		for _, i := range tpm.MandatoryPCRs() {
			if _, touched := values[i]; !touched {
				values[i] = [32]byte{}
			}
		}
		e, err := chip.Quote(bytes.Repeat([]byte{9}, 32), values)
		if err != nil {
			t.Fatal(err)
		}
		e.EventLog = simulated.EventLog(events)
		if _, err := tpm.Verify(e, tpm.Options{AttestationKeys: []crypto.PublicKey{chip.Key.Public()}, RequireEventLog: true}); err != nil {
			t.Error(err)
		}
	}
}
