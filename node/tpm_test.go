package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/attestationkey"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/node/internal/swtpm"
)

const zeroPCR = "0000000000000000000000000000000000000000000000000000000000000000"

func TestTPM(t *testing.T) {
	device, _ := swtpm.Start(t, t.TempDir())
	log := []byte("the firmware's event log")
	attester, err := NewTPM(device, bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	registers, err := attester.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRegisters(PlatformTPM, registers); err != nil {
		t.Fatal(err)
	}
	for name, value := range registers {
		if value != zeroPCR {
			t.Errorf("%s of a TPM that measured nothing is %s", name, value)
		}
	}

	// pcr11 = SHA-256(0 || digest).
	digest := sha256.Sum256([]byte(".linux"))
	extend(t, device, 11, digest)
	want := sha256.Sum256(append(make([]byte, 32), digest[:]...))
	if registers, err = attester.Registers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := registers["pcr11"]; got != hex.EncodeToString(want[:]) {
		t.Errorf("pcr11 is %s, want %x", got, want)
	}

	h := [64]byte(bytes.Repeat([]byte{0xa5}, 64))
	a, err := attester.Attest(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	checkQuote(t, device, a, h)
	if i := slices.IndexFunc(a.Endorsements, func(e evidence.Endorsement) bool { return e.Type == evidence.EventLog }); i < 0 || !bytes.Equal(a.Endorsements[i].Data, log) {
		t.Error("the attestation is without the firmware's event log")
	}
	if err := attester.Close(); err != nil {
		t.Error(err)
	}
	if _, err := attester.Attest(t.Context(), h); err == nil {
		t.Error("a closed attester attests")
	}
}

// checkQuote verifies a quote with the standard library alone.
func checkQuote(t *testing.T, device transport.TPM, a *Attestation, h [64]byte) {
	t.Helper()
	var public []byte
	for _, e := range a.Endorsements {
		if e.Type == evidence.AKPublic {
			public = e.Data
		}
	}
	key, err := attestationkey.PublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](a.Quote.Signature)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	signed := sha256.Sum256(a.Quote.Attest)
	if !ecdsa.Verify(key, signed[:], new(big.Int).SetBytes(pair.SignatureR.Buffer), new(big.Int).SetBytes(pair.SignatureS.Buffer)) {
		t.Error("the quote's signature is not the attestation key's")
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](a.Quote.Attest)
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := attest.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	if attest.Magic != tpm2.TPMGeneratedValue || attest.Type != tpm2.TPMSTAttestQuote {
		t.Errorf("magic %x, type %x", attest.Magic, attest.Type)
	}
	if want := sha256.Sum256(h[:]); !bytes.Equal(attest.ExtraData.Buffer, want[:]) {
		t.Errorf("extraData is %x, want %x", attest.ExtraData.Buffer, want)
	}
	values := sha256.New()
	for _, pcr := range []uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15} {
		read, err := tpm2.PCRRead{PCRSelectionIn: selectPCRs([]uint{pcr})}.Execute(device)
		if err != nil {
			t.Fatal(err)
		}
		values.Write(read.PCRValues.Digests[0].Buffer)
	}
	if !bytes.Equal(values.Sum(nil), quoted.PCRDigest.Buffer) {
		t.Error("the quote is not of the PCRs as they stand")
	}
	if selection := quoted.PCRSelect.PCRSelections; len(selection) != 1 || selection[0].Hash != tpm2.TPMAlgSHA256 || !bytes.Equal(selection[0].PCRSelect, []byte{0xff, 0xfb, 0x00}) {
		t.Errorf("the quote selects %+v", selection)
	}
}

func extend(t *testing.T, device transport.TPM, pcr uint32, digest [32]byte) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
}

// restless extends PCR 14 before chosen commands, as another program could.
type restless struct {
	t       *testing.T
	device  transport.TPM
	before  tpm2.TPMCC
	times   int
	extends int
}

func (r *restless) Send(command []byte) ([]byte, error) {
	// The command code is in the header's last four of ten bytes.
	if code := tpm2.TPMCC(uint32(command[6])<<24 | uint32(command[7])<<16 | uint32(command[8])<<8 | uint32(command[9])); code == r.before && r.extends < r.times {
		r.extends++
		extend(r.t, r.device, 14, [32]byte{1})
	}
	return r.device.Send(command)
}

// The registers are those of one moment, also when a PCR changes between the
// commands that read them.
func TestTPMWhilePCRsChange(t *testing.T) {
	device, _ := swtpm.Start(t, t.TempDir())
	for name, test := range map[string]struct {
		times int
		fails bool
	}{
		"once":             {1, false},
		"twice":            {2, false},
		"before each read": {1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			attester, err := NewTPM(&restless{t: t, device: device, before: tpm2.TPMCCPCRRead, times: test.times}, strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			defer attester.Close()
			registers, err := attester.Registers(t.Context())
			if test.fails {
				if err == nil {
					t.Error("read PCRs that never stood still")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := checkRegisters(PlatformTPM, registers); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTPMIsUsedByOneAtATime(t *testing.T) {
	device, _ := swtpm.Start(t, t.TempDir())
	attester, err := NewTPM(device, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer attester.Close()
	var users sync.WaitGroup
	const n = 8
	made := make(chan *Attestation, n)
	wanted := make(map[[32]byte]bool)
	for i := range n {
		h := [64]byte{byte(i)}
		wanted[evidence.QuoteData(h)] = true
		users.Go(func() {
			a, err := attester.Attest(t.Context(), h)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := attester.Registers(t.Context()); err != nil {
				t.Error(err)
			}
			made <- a
		})
	}
	users.Wait()
	close(made)
	for a := range made {
		attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](a.Quote.Attest)
		if err != nil {
			t.Fatal(err)
		}
		delete(wanted, [32]byte(attest.ExtraData.Buffer))
	}
	if len(wanted) != 0 {
		t.Errorf("%d quotes are not over what was asked for", len(wanted))
	}
}

// A node in front of a real TPM, over a real connection.
func TestNodeWithTPM(t *testing.T) {
	device, _ := swtpm.Start(t, t.TempDir())
	for pcr := range uint32(10) {
		extend(t, device, pcr, sha256.Sum256([]byte(strconv.Itoa(int(pcr)))))
	}
	attester, err := NewTPM(device, strings.NewReader("event log"))
	if err != nil {
		t.Fatal(err)
	}
	defer attester.Close()
	r := start(t, nil, withConfig(func(c *Config) { c.Attester = attester }))

	registers, err := attester.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := sampleRelease("1.0.0", nil)
	predicate, _ := release.Release()
	allowed := make(map[string]statement.Register)
	for name, value := range registers {
		allowed[name] = statement.Register{OneOf: []string{value}}
	}
	predicate.Measurements = []statement.Measurement{{Platform: PlatformTPM, Shape: "one", Registers: allowed}}
	file, leaf := transparent(t, release)
	checkpoint := string(checkpointOf(t, leaf, ""))
	r.pushed(&evidence.Push{Release: file, Checkpoint: checkpoint})
	client := r.client()
	for _, query := range []string{"", nonceQuery(sampleNonce(3))} {
		document, spki := r.document(client, query)
		if !bytes.Equal(document.TLSKey, spki) {
			t.Error("the document names another key")
		}
		h, err := document.UserData(statement.LeafHash(leaf))
		if err != nil {
			t.Fatal(err)
		}
		checkQuote(t, device, &Attestation{Quote: document.Quote, Endorsements: document.Endorsements}, h)
	}

	// A register that changes after the boot takes the dated evidence away at
	// the next push. Who brings a nonce is shown the register as it stands.
	extend(t, device, 12, [32]byte{1})
	r.pushed(&evidence.Push{Release: file})
	detail := r.refused(client, evidence.Path, 503, "node/no-statement")
	if !strings.HasSuffix(detail, ": pcr12") {
		t.Errorf("the refusal %q does not name pcr12", detail)
	}
	if logged := r.logged.String(); !strings.Contains(logged, "registers=pcr12") {
		t.Errorf("the console does not name pcr12:\n%s", logged)
	}
	document, _ := r.document(client, nonceQuery(sampleNonce(4)))
	h, err := document.UserData(statement.LeafHash(leaf))
	if err != nil {
		t.Fatal(err)
	}
	checkQuote(t, device, &Attestation{Quote: document.Quote, Endorsements: document.Endorsements}, h)
}

func TestNewTPMRefuses(t *testing.T) {
	device, _ := swtpm.Start(t, t.TempDir())
	if _, err := NewTPM(device, io.LimitReader(endless{}, maxEventLogBytes+1)); err == nil {
		t.Error("an endless event log is taken")
	}
	if _, err := OpenTPM("/dev/null", "/dev/null"); err == nil {
		t.Error("/dev/null is taken as a TPM")
	}
	if _, err := OpenTPM(t.TempDir()+"/absent", "/dev/null"); err == nil {
		t.Error("an absent TPM is opened")
	}
}
