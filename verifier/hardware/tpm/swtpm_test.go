package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/vitrine-dev/vitrine/node/attestationkey"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

// startTPM runs a real TPM in software, powered on.
func startTPM(t *testing.T) transport.TPM {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("VITRINE_REQUIRE_BOOT") == "1" {
			t.Fatal("swtpm is not installed, and VITRINE_REQUIRE_BOOT asks for it: apt-get install swtpm")
		}
		t.Skip("swtpm is not installed: apt-get install swtpm")
	}
	// Not t.TempDir: a Unix socket's path may have 107 bytes only.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	command := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	var output bytes.Buffer
	command.Stderr = &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return transport.FromReadWriter(c)
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm opened no socket: %s", output.Bytes())
		}
	}
}

type realTPM struct {
	t *testing.T
	transport.TPM
}

func (r realTPM) extend(events []simulated.Event) {
	r.t.Helper()
	for _, e := range events {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: e.Digest[:]}}},
		}.Execute(r.TPM)
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func selection(bank tpm2.TPMAlgID, pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bank, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

func (r realTPM) read(pcrs []int) map[int][32]byte {
	r.t.Helper()
	v := map[int][32]byte{}
	for _, i := range pcrs {
		got, err := tpm2.PCRRead{PCRSelectionIn: selection(tpm2.TPMAlgSHA256, uint(i))}.Execute(r.TPM)
		if err != nil {
			r.t.Fatal(err)
		}
		v[i] = [32]byte(got.PCRValues.Digests[0].Buffer)
	}
	return v
}

func (r realTPM) quote(handle tpm2.TPMHandle, name tpm2.TPM2BName, data []byte, s tpm2.TPMLPCRSelection) tpm.Evidence {
	r.t.Helper()
	got, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: handle, Name: name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: data},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      s,
	}.Execute(r.TPM)
	if err != nil {
		r.t.Fatal(err)
	}
	return tpm.Evidence{Attest: got.Quoted.Bytes(), Signature: tpm2.Marshal(got.Signature)}
}

func indices(pcrs []int) (u []uint) {
	for _, i := range pcrs {
		u = append(u, uint(i))
	}
	return u
}

func refused(t *testing.T, e tpm.Evidence, opts tpm.Options, code hardware.Code) {
	t.Helper()
	_, err := tpm.Verify(e, opts)
	r, ok := err.(*hardware.Rejection)
	if !ok || r.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestRealTPM(t *testing.T) {
	r := realTPM{t, startTPM(t)}
	key, err := attestationkey.Create(r.TPM)
	if err != nil {
		t.Fatal(err)
	}
	public, err := attestationkey.PublicKey(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	r.extend(boot())
	e := r.quote(key.Handle, key.Name, userData, selection(tpm2.TPMAlgSHA256, indices(quoted)...))
	e.AKPublic, e.PCRs, e.EventLog = key.Public, r.read(quoted), simulated.EventLog(boot())
	opts := tpm.Options{AttestationKeys: []crypto.PublicKey{public}, RequireEventLog: true}

	c, err := tpm.Verify(e, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.UserData, userData) || c.Isolation != hardware.None {
		t.Errorf("user data %x, isolation %s", c.UserData, c.Isolation)
	}
	want := simulated.Replay(boot())
	for _, i := range tpm.MandatoryPCRs() {
		if got := c.Registers[fmt.Sprintf("pcr%d", i)]; got != fmt.Sprintf("%x", want[i]) {
			t.Errorf("pcr%d = %s, want %x", i, got, want[i])
		}
	}
	// The software TPM and the simulated one encode alike.
	if a, err := tpm2.Unmarshal[tpm2.TPMSAttest](e.Attest); err != nil || len(a.QualifiedSigner.Buffer) != 34 {
		t.Errorf("the real quote: %v", err)
	}

	t.Run("every byte flipped", func(t *testing.T) {
		for _, part := range []*[]byte{&e.Attest, &e.Signature} {
			whole := *part
			for i := range whole {
				*part = slices.Clone(whole)
				(*part)[i] ^= 1
				if _, err := tpm.Verify(e, opts); err == nil {
					t.Errorf("with byte %d changed the quote still verifies", i)
				}
			}
			*part = whole
		}
	})
	t.Run("extended after the quote", func(t *testing.T) {
		r.extend([]simulated.Event{event(15, 8, "configuration")})
		late := e
		late.PCRs = r.read(quoted)
		refused(t, late, opts, "hardware/tpm/pcr-digest")
	})
	t.Run("extended past the log", func(t *testing.T) {
		late := r.quote(key.Handle, key.Name, userData, selection(tpm2.TPMAlgSHA256, indices(quoted)...))
		late.AKPublic, late.PCRs, late.EventLog = key.Public, r.read(quoted), e.EventLog
		refused(t, late, opts, "hardware/tpm/event-log-replay")
		late.EventLog = simulated.EventLog(append(boot(), event(15, 8, "configuration")))
		if _, err := tpm.Verify(late, opts); err != nil {
			t.Errorf("with the whole log: %v", err)
		}
	})
	t.Run("another bank", func(t *testing.T) {
		other := r.quote(key.Handle, key.Name, userData, selection(tpm2.TPMAlgSHA384, indices(quoted)...))
		other.AKPublic, other.PCRs = key.Public, e.PCRs
		refused(t, other, opts, "hardware/tpm/pcr-bank")
	})
	t.Run("too few PCRs", func(t *testing.T) {
		few := r.quote(key.Handle, key.Name, userData, selection(tpm2.TPMAlgSHA256, 4, 11))
		few.AKPublic, few.PCRs = key.Public, r.read([]int{4, 11})
		refused(t, few, opts, "hardware/tpm/pcr-not-quoted")
	})
	t.Run("no user data", func(t *testing.T) {
		empty := r.quote(key.Handle, key.Name, nil, selection(tpm2.TPMAlgSHA256, indices(quoted)...))
		empty.AKPublic, empty.PCRs = key.Public, e.PCRs
		refused(t, empty, opts, "hardware/tpm/extra-data")
	})
	t.Run("a time attestation", func(t *testing.T) {
		got, err := tpm2.GetTime{
			PrivacyAdminHandle: tpm2.TPMRHEndorsement,
			SignHandle:         tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData:     tpm2.TPM2BData{Buffer: userData},
			InScheme:           tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(r.TPM)
		if err != nil {
			t.Fatal(err)
		}
		other := e
		other.Attest, other.Signature = got.TimeInfo.Bytes(), tpm2.Marshal(got.Signature)
		refused(t, other, opts, "hardware/tpm/attest-type")
	})
	t.Run("a key that signs anything", func(t *testing.T) {
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		template := attestationkey.Template()
		template.ObjectAttributes.Restricted = false
		free, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(r.TPM)
		if err != nil {
			t.Fatal(err)
		}
		area, err := free.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		freeKey, err := tpm2.Pub(*area)
		if err != nil {
			t.Fatal(err)
		}
		// It can sign a quote of a machine that never booted so.
		v := values([]simulated.Event{event(4, 8, "something nobody booted")})
		forged := simulatedAttest(v)
		digest := sha256.Sum256(forged)
		got, err := tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: free.ObjectHandle, Name: free.Name, Auth: tpm2.PasswordAuth(nil)},
			Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(r.TPM)
		if err != nil {
			t.Fatal(err)
		}
		e := tpm.Evidence{Attest: forged, Signature: tpm2.Marshal(got.Signature), AKPublic: free.OutPublic.Bytes(), PCRs: v}
		freeOpts := tpm.Options{AttestationKeys: []crypto.PublicKey{freeKey}}
		refused(t, e, freeOpts, "hardware/tpm/ak-not-restricted")
		if _, err := tpm.VerifyWithout("key: restricted", e, freeOpts); err != nil {
			t.Errorf("the forgery is not what the check is for: %v", err)
		}
	})
}

func simulatedAttest(v map[int][32]byte) []byte { return tpm2.Marshal(simulated.Attest(userData, v)) }
