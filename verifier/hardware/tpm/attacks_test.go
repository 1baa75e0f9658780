package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/hardwaretest"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

var (
	userData = bytes.Repeat([]byte{0x5a}, 32)
	quoted   = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}
)

// keys are made once: RSA keys take a while.
var keys = sync.OnceValue(func() (k struct{ p256, p384, rsa2048, rsa1024 *simulated.TPM }) {
	must := func(t *simulated.TPM, err error) *simulated.TPM {
		if err != nil {
			panic(err)
		}
		return t
	}
	k.p256 = must(simulated.NewTPM(elliptic.P256()))
	k.p384 = must(simulated.NewTPM(elliptic.P384()))
	k.rsa2048 = must(simulated.NewRSATPM(2048))
	k.rsa1024 = must(simulated.NewRSATPM(1024))
	return k
})

func event(pcr, kind uint32, data string) simulated.Event {
	return simulated.Event{PCR: pcr, Type: kind, Digest: sha256.Sum256([]byte(data)), Data: []byte(data)}
}

// boot is a log in which some data is measured and some is not.
func boot() []simulated.Event {
	image := event(4, 0x80000003, "the image") // EV_EFI_BOOT_SERVICES_APPLICATION
	image.Data = []byte("a device path")
	return []simulated.Event{
		event(0, 0x8, "firmware"), // EV_S_CRTM_VERSION
		event(4, 0x80000007, "Calling EFI Application from Boot Option"), // EV_EFI_ACTION
		image,
		event(9, 0x6, "c\x00m\x00d\x00\x00\x00"), // EV_EVENT_TAG
		event(0, 0x4, "\x00\x00\x00\x00"),        // EV_SEPARATOR
	}
}

// values are the quoted PCRs after a log.
func values(log []simulated.Event) map[int][32]byte {
	v := map[int][32]byte{}
	for _, i := range quoted {
		v[i] = [32]byte{}
	}
	maps.Copy(v, simulated.Replay(log))
	return v
}

type sample struct {
	e    tpm.Evidence
	opts tpm.Options
}

func quote(t testing.TB, by *simulated.TPM) *sample {
	t.Helper()
	return sign(t, by, values(boot()), nil)
}

// sign has by sign a quote over values, after edit has changed it.
func sign(t testing.TB, by *simulated.TPM, v map[int][32]byte, edit func(*tpm2.TPMSAttest)) *sample {
	t.Helper()
	a := simulated.Attest(userData, v)
	if edit != nil {
		edit(&a)
	}
	return signRaw(t, by, tpm2.Marshal(a), v)
}

func signRaw(t testing.TB, by *simulated.TPM, attest []byte, v map[int][32]byte) *sample {
	t.Helper()
	e, err := by.Sign(attest, v)
	if err != nil {
		t.Fatal(err)
	}
	e.EventLog = simulated.EventLog(boot())
	return &sample{e, tpm.Options{AttestationKeys: []crypto.PublicKey{by.Key.Public()}, RequireEventLog: true}}
}

func (s *sample) with(edit func(*sample)) *sample { edit(s); return s }

// attack is evidence with one thing wrong. check is the one that must notice,
// or empty where the evidence cannot even be read.
type attack struct {
	name, check, code string
	make              func(testing.TB) *sample
}

func attacks() []attack {
	k := keys()
	c := func(what string) string { return "hardware/tpm/" + what }
	good := func(edit func(*sample)) func(testing.TB) *sample {
		return func(t testing.TB) *sample { return quote(t, k.p256).with(edit) }
	}
	attest := func(edit func(*tpm2.TPMSAttest)) func(testing.TB) *sample {
		return func(t testing.TB) *sample { return sign(t, k.p256, values(boot()), edit) }
	}
	info := func(edit func(*tpm2.TPMSQuoteInfo)) func(testing.TB) *sample {
		return attest(func(a *tpm2.TPMSAttest) {
			q, err := a.Attested.Quote()
			if err != nil {
				panic(err)
			}
			edit(q)
		})
	}
	key := func(edit func(*tpm2.TPMTPublic)) func(testing.TB) *sample {
		return func(t testing.TB) *sample {
			liar := *k.p256
			edit(&liar.Public)
			return quote(t, &liar)
		}
	}
	attr := func(edit func(*tpm2.TPMAObject)) func(testing.TB) *sample {
		return key(func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) })
	}
	eccScheme := func(hash tpm2.TPMAlgID) tpm2.TPMUPublicParms {
		return tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})},
		})
	}
	sig := func(edit func(*tpm2.TPMSSignatureECC)) func(testing.TB) *sample {
		return good(func(s *sample) {
			v, err := tpm2.Unmarshal[tpm2.TPMTSignature](s.e.Signature)
			if err != nil {
				panic(err)
			}
			ec, err := v.Signature.ECDSA()
			if err != nil {
				panic(err)
			}
			edit(ec)
			s.e.Signature = tpm2.Marshal(*v)
		})
	}
	without := func(pcr int) func(testing.TB) *sample {
		return func(t testing.TB) *sample {
			v := values(boot())
			delete(v, pcr)
			return sign(t, k.p256, v, nil)
		}
	}
	log := func(edit func([]simulated.Event) []simulated.Event) func(testing.TB) *sample {
		return good(func(s *sample) { s.e.EventLog = simulated.EventLog(edit(boot())) })
	}
	// SHA-1 is named in the log's header where SHA-256 was.
	sha1Log := bytes.ReplaceAll(simulated.EventLog(nil), []byte{0x0b, 0, 32, 0}, []byte{0x04, 0, 20, 0})
	shortLog := bytes.ReplaceAll(simulated.EventLog([]simulated.Event{event(0, 8, "x")}), []byte{0x0b, 0, 32, 0}, []byte{0x0b, 0, 31, 0})

	all := []attack{
		{"no options", "", "hardware/options", good(func(s *sample) { s.opts = tpm.Options{} })},
		{"nothing", "", c("attest-malformed"), good(func(s *sample) { s.e = tpm.Evidence{} })},
		{"cut off", "", c("attest-malformed"), good(func(s *sample) { s.e.Attest = s.e.Attest[:len(s.e.Attest)-1] })},
		{"trailing byte", "", c("attest-malformed"), func(t testing.TB) *sample {
			v := values(boot())
			return signRaw(t, k.p256, append(tpm2.Marshal(simulated.Attest(userData, v)), 0), v)
		}},
		{"size before it", "", c("attest-type"), func(t testing.TB) *sample {
			v := values(boot())
			a := tpm2.Marshal(simulated.Attest(userData, v))
			return signRaw(t, k.p256, append([]byte{0, byte(len(a))}, a...), v)
		}},
		{"too long", "", c("attest-malformed"), good(func(s *sample) { s.e.Attest = append(s.e.Attest, make([]byte, 5000)...) })},
		{"not by a TPM", "quote: made by a TPM", c("attest-magic"), attest(func(a *tpm2.TPMSAttest) { a.Magic = 0x12345678 })},
		{"of a time", "", c("attest-type"), attest(func(a *tpm2.TPMSAttest) {
			a.Type, a.Attested = tpm2.TPMSTAttestTime, tpm2.NewTPMUAttest(tpm2.TPMSTAttestTime, &tpm2.TPMSTimeAttestInfo{})
		})},
		{"of an unknown type", "", c("attest-type"), good(func(s *sample) { binary.BigEndian.PutUint16(s.e.Attest[4:], 0x1234) })},
		{"no user data", "quote: user data", c("extra-data"), attest(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = nil })},
		{"user data of 64 bytes", "quote: user data", c("extra-data"), attest(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 64) })},

		{"no key", "", c("ak-missing"), good(func(s *sample) { s.e.AKPublic = nil })},
		{"key cut off", "", c("ak-malformed"), good(func(s *sample) { s.e.AKPublic = s.e.AKPublic[:20] })},
		{"key with trailing byte", "", c("ak-malformed"), good(func(s *sample) { s.e.AKPublic = append(s.e.AKPublic, 0) })},
		{"key off the curve", "", c("ak-malformed"), key(func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{1}}})
		})},
		{"key's coordinate too long", "", c("ak-malformed"), key(func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 33)}})
		})},
		{"key of a MAC", "", c("ak-type"), good(func(s *sample) {
			s.e.AKPublic = tpm2.Marshal(tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
				Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
				Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: make([]byte, 32)})})
		})},
		{"key on another curve", "", c("ak-type"), key(func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP521})
		})},
		{"key on P-384", "key: type", c("ak-type"), func(t testing.TB) *sample { return quote(t, k.p384) }},
		{"RSA key of 1024 bits", "key: type", c("ak-type"), func(t testing.TB) *sample { return quote(t, k.rsa1024) }},
		{"key with SHA-384", "key: scheme", c("ak-scheme"), key(func(p *tpm2.TPMTPublic) { p.Parameters = eccScheme(tpm2.TPMAlgSHA384) })},
		{"key without scheme", "key: scheme", c("ak-scheme"), key(func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		})},
		{"RSA key with PSS", "key: scheme", c("ak-scheme"), func(t testing.TB) *sample {
			liar := *k.rsa2048
			liar.Public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
				Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})}})
			return quote(t, &liar)
		}},
		{"not restricted", "key: restricted", c("ak-not-restricted"), attr(func(o *tpm2.TPMAObject) { o.Restricted = false })},
		{"not signing", "key: signs", c("ak-not-signing"), attr(func(o *tpm2.TPMAObject) { o.SignEncrypt = false })},
		{"decrypts", "key: does not decrypt", c("ak-decrypts"), attr(func(o *tpm2.TPMAObject) { o.Decrypt = true })},
		{"not fixed to its TPM", "key: fixed to its TPM", c("ak-not-fixed-tpm"), attr(func(o *tpm2.TPMAObject) { o.FixedTPM = false })},
		{"not fixed to its parent", "key: fixed to its parent", c("ak-not-fixed-parent"), attr(func(o *tpm2.TPMAObject) { o.FixedParent = false })},
		{"imported", "key: made inside the TPM", c("ak-imported"), attr(func(o *tpm2.TPMAObject) { o.SensitiveDataOrigin = false })},
		{"unknown key", "key: trusted", c("ak-unknown"), good(func(s *sample) {
			s.opts.AttestationKeys = []crypto.PublicKey{k.rsa2048.Key.Public(), k.p384.Key.Public()}
		})},

		{"two banks", "quote: bank", c("pcr-bank"), info(func(q *tpm2.TPMSQuoteInfo) {
			q.PCRSelect.PCRSelections = append(q.PCRSelect.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgSHA1, PCRSelect: []byte{0, 0, 0}})
		})},
		{"bank of SHA-1", "quote: bank", c("pcr-bank"), info(func(q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA1 })},
		{"no selection", "", c("pcr-selection-malformed"), info(func(q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections = nil })},
		{"bitmap of four bytes", "", c("pcr-selection-malformed"), info(func(q *tpm2.TPMSQuoteInfo) {
			q.PCRSelect.PCRSelections[0].PCRSelect = append(q.PCRSelect.PCRSelections[0].PCRSelect, 0)
		})},
		{"a value missing", "PCR values: none missing", c("pcr-values-missing"), good(func(s *sample) { delete(s.e.PCRs, 12) })},
		{"a value too many", "PCR values: none unquoted", c("pcr-values-unquoted"), good(func(s *sample) { s.e.PCRs[16] = [32]byte{1} })},
		{"a value of no PCR", "PCR values: none unquoted", c("pcr-values-unquoted"), good(func(s *sample) { s.e.PCRs[-1] = [32]byte{1} })},
		{"another value", "PCR values: digest", c("pcr-digest"), good(func(s *sample) {
			s.e.PCRs[4] = [32]byte{1}
			s.e.EventLog, s.opts.RequireEventLog = nil, false
		})},

		{"no values and no log", "PCR values: none missing", c("pcr-values-missing"), good(func(s *sample) {
			s.e.PCRs, s.e.EventLog, s.opts.RequireEventLog = nil, nil, false
		})},
		{"no values and another log", "PCR values: digest", c("event-log-replay"), good(func(s *sample) {
			s.e.PCRs, s.e.EventLog = nil, simulated.EventLog(boot()[1:])
		})},

		{"signature cut off", "", c("signature-malformed"), good(func(s *sample) { s.e.Signature = s.e.Signature[:10] })},
		{"no signature", "", c("signature-malformed"), good(func(s *sample) { s.e.Signature = nil })},
		{"signature of an unknown kind", "", c("signature-malformed"), good(func(s *sample) { s.e.Signature[1] = 0xee })},
		{"signature says SHA-1", "signature: scheme", c("signature-scheme"), sig(func(e *tpm2.TPMSSignatureECC) { e.Hash = tpm2.TPMAlgSHA1 })},
		{"signature of the other scheme", "signature: scheme", c("signature-scheme"), func(t testing.TB) *sample {
			return quote(t, k.p256).with(func(s *sample) { s.e.Signature = quote(t, k.rsa2048).e.Signature })
		}},
		{"signature is PSS", "signature: scheme", c("signature-scheme"), good(func(s *sample) {
			s.e.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSAPSS, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSAPSS,
				&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, 256)}})})
		})},
		{"no signature in the signature", "signature: scheme", c("signature-scheme"), good(func(s *sample) { s.e.Signature = []byte{0, 0x10} })},
		{"signature zero", "signature", c("signature"), sig(func(e *tpm2.TPMSSignatureECC) { e.SignatureR.Buffer, e.SignatureS.Buffer = nil, nil })},
		{"quote changed", "signature", c("signature"), good(func(s *sample) { s.e.Attest[50] ^= 1 })},
		{"RSA quote changed", "signature", c("signature"), func(t testing.TB) *sample {
			return quote(t, k.rsa2048).with(func(s *sample) { s.e.Attest[50] ^= 1 })
		}},

		{"no log", "event log: present", c("event-log-missing"), good(func(s *sample) { s.e.EventLog = nil })},
		{"log is noise", "", c("event-log-malformed"), good(func(s *sample) { s.e.EventLog = []byte("noise") })},
		{"log cut off", "", c("event-log-malformed"), good(func(s *sample) { s.e.EventLog = s.e.EventLog[:len(s.e.EventLog)-1] })},
		{"log of SHA-1", "", c("event-log-malformed"), good(func(s *sample) { s.e.EventLog = sha1Log })},
		{"log with short digests", "", c("event-log-malformed"), good(func(s *sample) { s.e.EventLog = append(shortLog, 0)[:len(shortLog)-1] })},
		{"log with an algorithm twice", "", c("event-log-malformed"), good(func(s *sample) { s.e.EventLog = withAlgorithms(s.e.EventLog, 0xb, 0xb) })},
		{"log of more algorithms than banks", "", c("event-log-malformed"), good(func(s *sample) {
			s.e.EventLog = withAlgorithms(s.e.EventLog, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf, 0x10, 0x11)
		})},
		{"log too long", "", "hardware/collateral-size", good(func(s *sample) { s.e.EventLog = make([]byte, hardware.MaxCollateralBytes+1) })},
		{"log of too many events", "", c("event-log-malformed"), log(func([]simulated.Event) []simulated.Event { return make([]simulated.Event, 4097) })},
		{"log of PCR 24", "", c("event-log-malformed"), log(func(l []simulated.Event) []simulated.Event { return append(l, event(24, 8, "x")) })},
		{"log without an event", "event log: replay", c("event-log-replay"), log(func(l []simulated.Event) []simulated.Event { return slices.Delete(l, 1, 2) })},
		{"log without a register", "event log: replay", c("event-log-replay"), log(func(l []simulated.Event) []simulated.Event {
			return slices.DeleteFunc(l, func(e simulated.Event) bool { return e.PCR == 9 })
		})},
		{"log with one more", "event log: replay", c("event-log-replay"), log(func(l []simulated.Event) []simulated.Event { return append(l, event(12, 8, "x")) })},
		{"log in another order", "event log: replay", c("event-log-replay"), log(func(l []simulated.Event) []simulated.Event { l[1], l[2] = l[2], l[1]; return l })},
		{"log from another locality", "event log: replay", c("event-log-replay"), log(func(l []simulated.Event) []simulated.Event {
			return append([]simulated.Event{{PCR: 0, Type: 3, Data: []byte("StartupLocality\x00\x03")}}, l...)
		})},
		{"log with a late locality", "", c("event-log-malformed"), log(func(l []simulated.Event) []simulated.Event {
			return append(l, simulated.Event{PCR: 0, Type: 3, Data: []byte("StartupLocality\x00\x00")})
		})},
	}
	for _, i := range tpm.MandatoryPCRs() {
		name := fmt.Sprintf("PCR %d not quoted", i)
		all = append(all, attack{name, "quote: mandatory PCRs", c("pcr-not-quoted"), without(i)})
	}
	return all
}

func TestAttacks(t *testing.T) {
	p := hardwaretest.Platform{
		Name:     "tpm",
		Checks:   tpm.Checks(),
		Overlaps: func(string) bool { return false },
		Through: func(t testing.TB, claims *hardware.Claims) {
			if claims.Isolation != hardware.None {
				t.Errorf("isolation %s", claims.Isolation)
			}
		},
	}
	for _, a := range attacks() {
		p.Attacks = append(p.Attacks, hardwaretest.Attack{
			Name: a.name, Code: hardware.Code(a.code), Check: a.check,
			Make: func(t testing.TB) func(string) (*hardware.Claims, error) {
				s := a.make(t)
				return func(without string) (*hardware.Claims, error) {
					return tpm.VerifyWithout(without, s.e, s.opts)
				}
			},
		})
	}
	p.Test(t)
}

func TestVerify(t *testing.T) {
	for name, by := range map[string]*simulated.TPM{"P-256": keys().p256, "RSA": keys().rsa2048} {
		s := quote(t, by)
		c, err := tpm.Verify(s.e, s.opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.Platform != "tpm" || c.Isolation != hardware.None || !bytes.Equal(c.UserData, userData) {
			t.Errorf("%s: platform %s, isolation %s, user data %x", name, c.Platform, c.Isolation, c.UserData)
		}
		if len(c.Registers) != 10 || c.Registers["pcr11"] != strings.Repeat("00", 32) {
			t.Errorf("%s: registers %v", name, c.Registers)
		}
		if !c.Flags["clockSafe"] || !c.Flags["eventLog"] {
			t.Errorf("%s: flags %v", name, c.Flags)
		}
		if _, ok := c.Fact("pcr14"); !ok {
			t.Errorf("%s: facts %v", name, c.Facts)
		}
		for _, f := range []hardware.Fact{
			{Name: "event pcr4", Label: "EV_EFI_ACTION", Value: digest("Calling EFI Application from Boot Option") + ` "Calling EFI Application from Boot Option"`},
			{Name: "event pcr4", Label: "EV_EFI_BOOT_SERVICES_APPLICATION", Value: digest("the image") + ` "a device path"`, Unverified: true},
			{Name: "event pcr9", Label: "EV_EVENT_TAG", Value: digest("c\x00m\x00d\x00\x00\x00") + ` "cmd"`},
		} {
			if !slices.Contains(c.Facts, f) {
				t.Errorf("%s: no fact %+v in %+v", name, f, c.Facts)
			}
		}

		// The log alone gives the values as well.
		given := s.e.PCRs
		s.e.PCRs = nil
		if c2, err := tpm.Verify(s.e, s.opts); err != nil || !maps.Equal(c2.Registers, c.Registers) {
			t.Errorf("%s with the values from the log: %v", name, err)
		}
		s.e.PCRs = given

		// Without a log the same quote stands, if none is demanded.
		s.e.EventLog, s.opts.RequireEventLog = nil, false
		if c, err := tpm.Verify(s.e, s.opts); err != nil || c.Flags["eventLog"] {
			t.Errorf("%s without a log: %v", name, err)
		}
	}
}

// withAlgorithms is a log whose first event lists these digest algorithms, all
// but the last with digests of 32 KiB.
func withAlgorithms(log []byte, names ...uint16) []byte {
	const sizeAt, specAt, numAlgsAt = 28, 32, 24
	le := binary.LittleEndian
	spec := log[specAt:][:le.Uint32(log[sizeAt:])]
	longer := le.AppendUint32(slices.Clone(spec[:numAlgsAt]), uint32(len(names)))
	for i, n := range names {
		size := uint16(1 << 15)
		if i == len(names)-1 {
			size = sha256.Size
		}
		longer = le.AppendUint16(le.AppendUint16(longer, n), size)
	}
	longer = append(longer, 0) // no vendor information
	out := le.AppendUint32(slices.Clone(log[:sizeAt]), uint32(len(longer)))
	return slices.Concat(out, longer, log[specAt+len(spec):])
}

// A log is read before any signature, so that its cost must not be the sender's
// to choose: this one of 1 MiB would take hours.
func TestEventLogIsBounded(t *testing.T) {
	s := sign(t, keys().p256, values(boot()), nil)
	names := slices.Repeat([]uint16{0xb}, 100_000)
	s.e.EventLog = withAlgorithms(simulated.EventLog(make([]simulated.Event, 4000)), names...)
	s.e.EventLog = append(s.e.EventLog, make([]byte, hardware.MaxCollateralBytes-len(s.e.EventLog))...)
	done := make(chan error, 1)
	go func() {
		_, err := tpm.Verify(s.e, s.opts)
		done <- err
	}()
	select {
	case err := <-done:
		var r *hardware.Rejection
		if !errors.As(err, &r) || r.Code != "hardware/tpm/event-log-malformed" {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the log is still being read")
	}
}

func digest(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// The log of a real boot (QEMU, OVMF, systemd's stub) replays to the values that
// the guest read.
func TestRealBootLog(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "builder", "measure", "testdata", "boot")
	log, err := os.ReadFile(filepath.Join(folder, "eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "pcrs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	v := map[int][32]byte{}
	for line := range strings.Lines(string(text)) {
		var (
			pcr   int
			value []byte
		)
		if _, err := fmt.Sscanf(line, "pcr%d %x", &pcr, &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if pcr != 10 { // the kernel's own
			v[pcr] = [32]byte(value)
		}
	}
	s := sign(t, keys().p256, v, nil)
	s.e.EventLog = log
	c, err := tpm.Verify(s.e, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	var covered, not int
	for _, f := range c.Facts {
		if strings.HasPrefix(f.Name, "event ") {
			if f.Unverified {
				not++
			} else {
				covered++
			}
		}
	}
	if covered == 0 || not == 0 {
		t.Errorf("%d events whose data is measured and %d whose data is not", covered, not)
	}
	action := hardware.Fact{Name: "event pcr4", Label: "EV_EFI_ACTION", Value: digest("Calling EFI Application from Boot Option") + ` "Calling EFI Application from Boot Option"`}
	if !slices.Contains(c.Facts, action) {
		t.Errorf("no fact %+v", action)
	}
	// Every byte of the log changed: it replays to something else, cannot be
	// read, or only what is marked as unverified has changed.
	for i := range log {
		s.e.EventLog = slices.Clone(log)
		s.e.EventLog[i] ^= 0xff
		changed, err := tpm.Verify(s.e, s.opts)
		if err != nil {
			continue
		}
		for j, f := range changed.Facts {
			if !f.Unverified && (f.Name != c.Facts[j].Name || f.Value != c.Facts[j].Value) {
				t.Fatalf("with byte %d of the log changed %+v is claimed as verified, instead of %+v", i, f, c.Facts[j])
			}
		}
	}
}

// A TPM that was started from locality 3 begins PCR 0 with 3.
func TestStartupLocality(t *testing.T) {
	log := []simulated.Event{{PCR: 0, Type: 3, Data: []byte("StartupLocality\x00\x03")}, event(0, 8, "firmware")}
	start, d := [32]byte{31: 3}, sha256.Sum256([]byte("firmware"))
	v := values(nil)
	v[0] = sha256.Sum256(append(start[:], d[:]...))
	s := sign(t, keys().p256, v, nil)
	s.e.EventLog = simulated.EventLog(log)
	if _, err := tpm.Verify(s.e, s.opts); err != nil {
		t.Error(err)
	}
}

// No mutant of a signed byte verifies, and none panics.
func TestFlip(t *testing.T) {
	for name, by := range map[string]*simulated.TPM{"P-256": keys().p256, "RSA": keys().rsa2048} {
		s := quote(t, by)
		for part, data := range map[string]*[]byte{"attest": &s.e.Attest, "signature": &s.e.Signature, "key": &s.e.AKPublic} {
			whole := *data
			for i := range whole {
				for _, bits := range []byte{1, 0x80, 0xff} {
					*data = slices.Clone(whole)
					(*data)[i] ^= bits
					if _, err := tpm.Verify(s.e, s.opts); err == nil && !unsignedKeyByte(part, i) {
						t.Errorf("%s: with byte %d of the %s changed by %#x the quote still verifies", name, i, part, bits)
					}
				}
			}
			*data = whole
		}
		// Of a log, digests and everything that finds them are replayed; types
		// and data are not, and the claims say so of data.
		whole := s.e.EventLog
		for i := range whole {
			s.e.EventLog = slices.Clone(whole)
			s.e.EventLog[i] ^= 0x80
			_, _ = tpm.Verify(s.e, s.opts)
		}
		s.e.EventLog = whole
		for i := range s.e.PCRs {
			v := s.e.PCRs[i]
			w := v
			w[i] ^= 1
			s.e.PCRs[i] = w
			if _, err := tpm.Verify(s.e, s.opts); err == nil {
				t.Errorf("%s: with another value of PCR %d the quote still verifies", name, i)
			}
			s.e.PCRs[i] = v
		}
	}
}

// unsignedKeyByte names the bytes of a public area that decide nothing: they
// are covered by no signature, and only the key in it is compared with the
// trusted one.
func unsignedKeyByte(part string, i int) bool {
	if part != "key" {
		return false
	}
	return i >= 2 && i < 8 // the name's algorithm, and attributes that nothing is demanded of
}

func FuzzVerify(f *testing.F) {
	for _, by := range []*simulated.TPM{keys().p256, keys().rsa2048, keys().p384} {
		s := quote(f, by)
		f.Add(s.e.Attest, s.e.Signature, s.e.AKPublic, s.e.EventLog, byte(0))
	}
	if log, err := os.ReadFile("../../../builder/measure/testdata/boot/eventlog.bin"); err == nil {
		s := quote(f, keys().p256)
		f.Add(s.e.Attest, s.e.Signature, s.e.AKPublic, log, byte(10))
	}
	f.Add([]byte{}, []byte{0, 0x10}, tpm2.Marshal(tpm2.RSAEKTemplate), []byte{}, byte(9))
	good := map[string]bool{}
	for _, by := range []*simulated.TPM{keys().p256, keys().rsa2048} {
		good[string(quote(f, by).e.Attest)] = true
	}
	opts := tpm.Options{AttestationKeys: []crypto.PublicKey{keys().p256.Key.Public(), keys().rsa2048.Key.Public()}}
	f.Fuzz(func(t *testing.T, attest, signature, key, log []byte, drop byte) {
		v := values(boot())
		delete(v, int(drop))
		_, err := tpm.Verify(tpm.Evidence{Attest: attest, Signature: signature, AKPublic: key, PCRs: v, EventLog: log}, opts)
		if err == nil {
			if !good[string(attest)] {
				t.Fatalf("a quote that nobody signed verifies: %x", attest)
			}
			return
		}
		var r *hardware.Rejection
		if !errors.As(err, &r) {
			t.Fatalf("refused without a code: %v", err)
		}
		if _, ok := r.Code.Info(); !ok {
			t.Fatalf("refused with %s, which is not in the list", r.Code)
		}
	})
}

// BenchmarkVerify measures a verification against the bare signature that it
// rests on, in one run, and reports the ratio.
func BenchmarkVerify(b *testing.B) {
	s := quote(b, keys().p256)
	v, err := tpm2.Unmarshal[tpm2.TPMTSignature](s.e.Signature)
	if err != nil {
		b.Fatal(err)
	}
	ec, err := v.Signature.ECDSA()
	if err != nil {
		b.Fatal(err)
	}
	key := keys().p256.Key.Public().(*ecdsa.PublicKey)
	benchmark(b, func() bool {
		d := sha256.Sum256(s.e.Attest)
		return ecdsa.Verify(key, d[:], bigInt(ec.SignatureR.Buffer), bigInt(ec.SignatureS.Buffer))
	}, func() bool {
		_, err := tpm.Verify(s.e, s.opts)
		return err == nil
	})
}
