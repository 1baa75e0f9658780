package sevsnp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/vitrine-dev/vitrine/log/vectors"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"

	spb "github.com/google/go-sev-guest/proto/sevsnp"
)

var milanTime = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)

// milan returns a report that a real Milan chip signed, with its certificate.
func milan(t testing.TB) *sample {
	t.Helper()
	read := func(name string) []byte { return vectors.Evidence(t, "sev-snp/"+name) }
	return &sample{
		raw: read("report-milan-v2.bin"),
		col: hardware.Collateral{hardware.VCEK: read("report-milan-v2.vcek.der")},
		opts: sevsnp.Options{Now: milanTime, BuiltInRoots: true,
			MinimumTCB: &sevsnp.TCB{Bootloader: 3, SNP: 8, Microcode: 115}},
	}
}

func TestRealMilan(t *testing.T) {
	s := milan(t)
	c, err := sevsnp.Verify(s.raw, s.col, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform != "sev-snp" || c.Isolation != hardware.Confidential || c.Simulated || len(c.Unseen) != 0 {
		t.Errorf("platform %s, isolation %s, simulated %v, unseen %q", c.Platform, c.Isolation, c.Simulated, c.Unseen)
	}
	want := map[string]string{
		"launchDigest": "a1f393041324" + "7bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c23500644e0e692e6be917f9050d3d38c",
		"guestPolicy":  "000000000003001f",
		"vmpl":         "00000000",
		"hostData":     strings.Repeat("00", 32),
		"idKeyDigest":  "0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3",
	}
	for name, value := range want {
		if c.Registers[name] != value {
			t.Errorf("%s = %s, want %s", name, c.Registers[name], value)
		}
	}
	if len(c.Registers) != len(want) {
		t.Errorf("registers %v, want %d of them", c.Registers, len(want))
	}
	if got := hex.EncodeToString(c.UserData); !strings.HasPrefix(got, "ec6c52d7533cc2c4") || len(c.UserData) != 64 {
		t.Errorf("user data %s", got)
	}
	for _, l := range []struct {
		level, component string
		want             int64
	}{{"reported", "microcode", 115}, {"current", "microcode", 0xce}, {"committed", "snp", 8}, {"launch", "bootloader", 3}} {
		if got := c.TCB[l.level][l.component]; got != l.want {
			t.Errorf("TCB %s %s = %d, want %d", l.level, l.component, got, l.want)
		}
	}
	if !c.Flags["smtAllowed"] || !c.Flags["smtEnabled"] || c.Flags["debugAllowed"] || !c.Flags["provisionalFirmware"] {
		t.Errorf("flags %v", c.Flags)
	}
	if f, ok := c.Fact("productName"); !ok || f.Value != "Milan-B0" || f.Unverified {
		t.Errorf("product name %+v", f)
	}
}

// What this package accepts of a real chip, the library's own verification
// accepts too.
func TestAgreesWithLibrary(t *testing.T) {
	s := milan(t)
	parsed, err := abi.ReportToProto(s.raw)
	if err != nil {
		t.Fatal(err)
	}
	att := &spb.Attestation{Report: parsed, CertificateChain: &spb.CertificateChain{VcekCert: s.col[hardware.VCEK]}}
	if err := verify.SnpAttestation(att, &verify.Options{DisableCertFetching: true, Now: milanTime}); err != nil {
		t.Error(err)
	}
	c, err := sevsnp.Verify(s.raw, s.col, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	if c.Registers["launchDigest"] != hex.EncodeToString(parsed.Measurement) || !bytes.Equal(c.UserData, parsed.ReportData) {
		t.Error("the library reads another measurement or other report data")
	}
}

// The library's own sample is of a guest that may be debugged, and its chip's
// certificate verifies otherwise.
func TestRealDebug(t *testing.T) {
	raw, col := testdata.AttestationBytes, hardware.Collateral{hardware.VCEK: testdata.VcekBytes}
	if len(raw) > abi.ReportSize {
		raw = raw[:abi.ReportSize]
	}
	opts := sevsnp.Options{Now: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), BuiltInRoots: true, MinimumTCB: &sevsnp.TCB{}}
	wantCode(t, "hardware/sev-snp/debug", raw, col, opts)
	if c, err := sevsnp.VerifyWithout("no debugging", raw, col, opts); err != nil {
		t.Errorf("debugging aside, it is genuine, but: %v", err)
	} else if !c.Flags["debugAllowed"] {
		t.Error("the claims do not say that debugging is allowed")
	}
}

func wantCode(t *testing.T, code hardware.Code, raw []byte, col hardware.Collateral, opts sevsnp.Options) {
	t.Helper()
	_, err := sevsnp.Verify(raw, col, opts)
	var r *hardware.Rejection
	if !errors.As(err, &r) || r.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestRealMilanWrongOptions(t *testing.T) {
	for _, c := range []struct {
		code hardware.Code
		edit func(*sample)
	}{
		{"hardware/sev-snp/vcek-expired", func(s *sample) { s.opts.Now = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"hardware/sev-snp/vcek-not-yet-valid", func(s *sample) { s.opts.Now = time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"hardware/sev-snp/minimum-tcb-microcode", func(s *sample) { s.opts.MinimumTCB = &sevsnp.TCB{Microcode: 116} }},
		{"hardware/sev-snp/minimum-tcb-snp", func(s *sample) { s.opts.MinimumTCB = &sevsnp.TCB{SNP: 9} }},
		{"hardware/sev-snp/crl-missing", func(s *sample) { s.opts.RequireCRL = true }},
		{"hardware/sev-snp/ask-missing", func(s *sample) {
			s.opts.BuiltInRoots, s.opts.SimulatedRoots = false, []*x509.Certificate{vendors()[0].ARK}
		}},
		{"hardware/sev-snp/vcek-missing", func(s *sample) { s.col = nil }},
		{"hardware/sev-snp/vcek-malformed", func(s *sample) { s.col[hardware.VCEK] = s.col[hardware.VCEK][:100] }},
		{"hardware/sev-snp/report-size", func(s *sample) { s.raw = append(s.raw, s.col[hardware.VCEK]...) }},
	} {
		s := milan(t)
		c.edit(s)
		wantCode(t, c.code, s.raw, s.col, s.opts)
	}
}

// The chain may come from the node as well, in either encoding.
func TestRealMilanGivenChain(t *testing.T) {
	s := milan(t)
	ask, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	ark, _ := pem.Decode(rest)
	for _, col := range []hardware.Collateral{
		{hardware.ASK: ask.Bytes},
		{hardware.ASK: pem.EncodeToMemory(ask), hardware.ARK: pem.EncodeToMemory(ark)},
		{hardware.ARK: ark.Bytes},
	} {
		col[hardware.VCEK] = s.col[hardware.VCEK]
		if _, err := sevsnp.Verify(s.raw, col, s.opts); err != nil {
			t.Errorf("with %d items: %v", len(col), err)
		}
	}
	genoa, rest := pem.Decode(trust.AskArkGenoaVcekBytes)
	genoaARK, _ := pem.Decode(rest)
	wantCode(t, "hardware/sev-snp/vcek-issuer", s.raw, hardware.Collateral{hardware.VCEK: s.col[hardware.VCEK], hardware.ASK: genoa.Bytes}, s.opts)
	wantCode(t, "hardware/sev-snp/ark-unknown", s.raw, hardware.Collateral{hardware.VCEK: s.col[hardware.VCEK], hardware.ARK: genoaARK.Bytes}, s.opts)
}

// No mutant of a single byte of the report verifies: every byte is signed,
// part of the signature, or reserved after it.
func TestFlipReport(t *testing.T) {
	s := milan(t)
	for i := range s.raw {
		for _, bits := range []byte{0x01, 0x80, 0xff} {
			mutant := slices.Clone(s.raw)
			mutant[i] ^= bits
			if _, err := sevsnp.Verify(mutant, s.col, s.opts); err == nil {
				t.Errorf("with byte %#x changed by %#x the report still verifies", i, bits)
			}
		}
	}
}

func TestFlipCertificates(t *testing.T) {
	s := milan(t)
	ask, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	ark, _ := pem.Decode(rest)
	s.col[hardware.ASK], s.col[hardware.ARK] = ask.Bytes, ark.Bytes
	for name, der := range s.col {
		for i := range der {
			mutant := slices.Clone(der)
			mutant[i] ^= 1 << (i % 8)
			col := hardware.Collateral{}
			for n, d := range s.col {
				col[n] = d
			}
			col[name] = mutant
			if _, err := sevsnp.Verify(s.raw, col, s.opts); err == nil {
				t.Errorf("with byte %d of the %s changed the report still verifies", i, name)
			}
		}
	}
}

// ECDSA has two signatures for each: (r, s) and (r, n-s). The second is as
// good, and no harm comes of it, since nothing is recognised by a signature.
func TestOtherSignatureIsHarmless(t *testing.T) {
	s := milan(t)
	cert, err := x509.ParseCertificate(s.col[hardware.VCEK])
	if err != nil {
		t.Fatal(err)
	}
	key := cert.PublicKey.(*ecdsa.PublicKey)
	r, ss := abi.AmdBigInt(s.raw[0x2A0:0x2E8]), abi.AmdBigInt(s.raw[0x2E8:0x330])
	if err := abi.SetSignature(r, new(big.Int).Sub(key.Params().N, ss), s.raw); err != nil {
		t.Fatal(err)
	}
	if _, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil {
		t.Error(err)
	}
}

// Nothing that simulated roots sign verifies under the built-in ones, whatever
// part of the vendor's chain it is put together with.
func TestSimulatedNeverGenuine(t *testing.T) {
	amdASK, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	amdARK, _ := pem.Decode(rest)
	amdName := func(c *simulated.Chip) {
		c.Edit = func(_ string, t *x509.Certificate) {
			t.Subject.Country, t.Subject.Province, t.Subject.Locality = []string{"US"}, []string{"CA"}, []string{"Santa Clara"}
			t.Subject.Organization, t.Subject.OrganizationalUnit = []string{"Advanced Micro Devices"}, []string{"Engineering"}
			t.RawSubject = nil
			switch {
			case strings.HasPrefix(t.Subject.CommonName, "ARK-"):
				cert, _ := x509.ParseCertificate(amdARK.Bytes)
				t.RawSubject = cert.RawSubject
			case t.Subject.CommonName == "SEV-Milan":
				cert, _ := x509.ParseCertificate(amdASK.Bytes)
				t.RawSubject = cert.RawSubject
			}
		}
	}
	for _, edit := range []func(*simulated.Chip){nil, amdName} {
		for _, csp := range []string{"", "provider"} {
			s := as(t, csp, 2, edit)
			s.opts.SimulatedRoots, s.opts.BuiltInRoots = nil, true
			own := s.col
			for _, ask := range [][]byte{nil, own[hardware.ASK], amdASK.Bytes} {
				for _, ark := range [][]byte{nil, own[hardware.ARK], amdARK.Bytes} {
					col := hardware.Collateral{}
					for name, data := range own {
						col[name] = data
					}
					for name, data := range map[string][]byte{hardware.ASK: ask, hardware.ARK: ark} {
						if delete(col, name); data != nil {
							col[name] = data
						}
					}
					if c, err := sevsnp.Verify(s.raw, col, s.opts); err == nil {
						t.Errorf("a simulated report is claimed to be %s under the built-in roots", c.Isolation)
					}
				}
			}
			// With both kinds of roots trusted and AMD's names on the simulated
			// ones, the claims still tell them apart.
			s.opts.SimulatedRoots = []*x509.Certificate{s.chip.ARK}
			c, err := sevsnp.Verify(s.raw, s.col, s.opts)
			if err != nil {
				t.Errorf("under its own root: %v", err)
			} else if !c.Simulated || c.Isolation != hardware.None {
				t.Errorf("claims of a simulated chip beside the built-in roots: simulated %v, isolation %s", c.Simulated, c.Isolation)
			}
			delete(s.col, hardware.ARK)
			if c, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil || !c.Simulated {
				t.Errorf("without the root in the evidence: %v", err)
			}
		}
	}
}

func TestSimulatedKeptInFile(t *testing.T) {
	for _, csp := range []string{"", "provider"} {
		for _, product := range []string{"Milan-B0", "Turin-B0"} {
			made := as(t, csp, 3, func(c *simulated.Chip) {
				if c.Product = product; product == "Turin-B0" {
					turinChip(c)
				}
			})
			file, err := made.chip.PEM()
			if err != nil {
				t.Fatal(err)
			}
			read, err := simulated.ParseAMD(file)
			if err != nil {
				t.Fatal(err)
			}
			s := of(t, read, simulated.Report{Version: 3})
			s.opts = made.opts
			if _, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil {
				t.Errorf("%s, provider %q: a report by the chip read from its file: %v", product, csp, err)
			}
			if _, err := read.Reissue(now, read.Chip); err == nil {
				t.Error("a chip read from a file can certify others")
			}
		}
	}
	if _, err := simulated.ParseAMD([]byte("nothing")); err == nil {
		t.Error("a file without certificates is taken for a chip")
	}
}

// recorded returns evidence that a simulated chip made once and for all: a
// fuzzer's processes have to agree on it.
func recorded(t testing.TB, name, csp string, version uint32) *sample {
	t.Helper()
	folder := filepath.Join("testdata", name)
	if vectors.Update() {
		s := as(t, csp, version, nil)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		s.col["report"] = s.raw
		for item, data := range s.col {
			if err := os.WriteFile(filepath.Join(folder, item), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := &sample{col: hardware.Collateral{}, opts: sevsnp.Options{Now: now, MinimumTCB: &sevsnp.TCB{}, AdmitUnseen: true}}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s.col[e.Name()] = data
	}
	s.raw = s.col["report"]
	delete(s.col, "report")
	root, err := x509.ParseCertificate(s.col[hardware.ARK])
	if err != nil {
		t.Fatal(err)
	}
	s.opts.SimulatedRoots = []*x509.Certificate{root}
	return s
}

// What was accepted once stays accepted.
func TestRecorded(t *testing.T) {
	for _, s := range []*sample{recorded(t, "vcek-v2", "", 2), recorded(t, "vlek-v3", "provider", 3)} {
		if c, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil || !c.Simulated {
			t.Errorf("a recorded simulated report: %v", err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s, v := recorded(f, "vcek-v2", "", 2), recorded(f, "vlek-v3", "provider", 3)
	f.Add(s.raw, s.col[hardware.VCEK], s.col[hardware.ASK], []byte(nil))
	f.Add(v.raw, v.col[hardware.VLEK], v.col[hardware.ASK], []byte("-----BEGIN X509 CRL-----"))
	f.Add(make([]byte, abi.ReportSize), []byte{0x30}, []byte("-----BEGIN CERTIFICATE-----"), []byte{})
	genuine := [][]byte{s.raw[:0x2A0], v.raw[:0x2A0]}
	opts := s.opts
	opts.BuiltInRoots = true
	opts.SimulatedRoots = append(opts.SimulatedRoots, v.opts.SimulatedRoots...)
	f.Fuzz(func(t *testing.T, raw, ek, ask, crl []byte) {
		col := hardware.Collateral{hardware.VCEK: ek, hardware.VLEK: ek, hardware.ASK: ask}
		if len(crl) != 0 {
			col[hardware.CRL] = crl
		}
		c, err := sevsnp.Verify(raw, col, opts)
		if err != nil {
			var r *hardware.Rejection
			if !errors.As(err, &r) {
				t.Fatalf("refused without a code: %v", err)
			}
			if _, ok := r.Code.Info(); !ok {
				t.Fatalf("refused with %s, which is not in the list", r.Code)
			}
			return
		}
		if !slices.ContainsFunc(genuine, func(g []byte) bool { return bytes.Equal(g, raw[:0x2A0]) }) {
			t.Fatalf("a report that nobody signed verifies: %+v", c)
		}
	})
}

// BenchmarkVerify measures a cold verification against the bare signatures
// that it rests on, in one run, and reports the ratio.
func BenchmarkVerify(b *testing.B) {
	s := milan(b)
	vcek, err := x509.ParseCertificate(s.col[hardware.VCEK])
	if err != nil {
		b.Fatal(err)
	}
	askPEM, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	arkPEM, _ := pem.Decode(rest)
	ask, err := x509.ParseCertificate(askPEM.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	ark, err := x509.ParseCertificate(arkPEM.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	key := vcek.PublicKey.(*ecdsa.PublicKey)
	floor := func() {
		digest := sha512.Sum384(s.raw[:0x2A0])
		ok := ecdsa.Verify(key, digest[:], abi.AmdBigInt(s.raw[0x2A0:0x2E8]), abi.AmdBigInt(s.raw[0x2E8:0x330]))
		if !ok || ark.CheckSignature(x509.SHA384WithRSAPSS, ask.RawTBSCertificate, ask.Signature) != nil ||
			ask.CheckSignature(x509.SHA384WithRSAPSS, vcek.RawTBSCertificate, vcek.Signature) != nil {
			b.Fatal("the bare signatures do not verify")
		}
	}
	whole := func() {
		if _, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil {
			b.Fatal(err)
		}
	}
	whole() // the built-in chain is parsed once
	var bare, all time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		floor()
		mid := time.Now()
		whole()
		bare, all = bare+mid.Sub(start), all+time.Since(mid)
	}
	b.ReportMetric(float64(all)/float64(bare), "x-floor")
	b.ReportMetric(float64(all.Nanoseconds())/float64(b.N), "ns/verification")
}

func TestAllocations(t *testing.T) {
	s := milan(t)
	run := func() {
		if _, err := sevsnp.Verify(s.raw, s.col, s.opts); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if n := testing.AllocsPerRun(20, run); n > 560 {
		t.Errorf("one verification makes %.0f allocations", n)
	} else {
		t.Logf("%.0f allocations", n)
	}
}
