package sevsnp_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/kds"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/hardwaretest"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is one piece of evidence with the options it is appraised under.
type sample struct {
	chip *simulated.AMD
	raw  []byte
	col  hardware.Collateral
	opts sevsnp.Options
}

// vendors are two unrelated simulated vendors under one name.
var vendors = sync.OnceValue(func() [2]*simulated.AMD {
	var v [2]*simulated.AMD
	for i := range v {
		chip, err := simulated.NewAMD(now)
		if err != nil {
			panic(err)
		}
		v[i] = chip
	}
	return v
})

// as returns evidence of a chip of the first vendor, after edit has changed
// what the chip is.
func as(t testing.TB, csp string, version uint32, edit func(*simulated.Chip)) *sample {
	t.Helper()
	return by(t, vendors()[0], csp, version, edit)
}

func by(t testing.TB, vendor *simulated.AMD, csp string, version uint32, edit func(*simulated.Chip)) *sample {
	t.Helper()
	spec := vendor.Chip
	spec.CSP = csp
	if edit != nil {
		edit(&spec)
	}
	chip, err := vendor.Reissue(now, spec)
	if err != nil {
		t.Fatal(err)
	}
	return of(t, chip, simulated.Report{Version: version})
}

func of(t testing.TB, chip *simulated.AMD, r simulated.Report) *sample {
	t.Helper()
	raw, err := chip.Report(r)
	if err != nil {
		t.Fatal(err)
	}
	return &sample{chip: chip, raw: raw, col: chip.Endorsements(), opts: sevsnp.Options{
		Now: now, SimulatedRoots: []*x509.Certificate{chip.ARK}, MinimumTCB: &sevsnp.TCB{}, AdmitUnseen: true,
	}}
}

// put changes the report at an offset and signs it again.
func (s *sample) put(t testing.TB, at int, bytes ...byte) *sample {
	t.Helper()
	copy(s.raw[at:], bytes)
	if err := s.chip.Sign(s.raw); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sample) putPolicy(t testing.TB, policy uint64) *sample {
	return s.put(t, 0x08, binary.LittleEndian.AppendUint64(nil, policy)...)
}

func (s *sample) with(edit func(*sample)) *sample { edit(s); return s }

// attack is evidence with one thing wrong. check is the one that must notice,
// or empty where the evidence cannot even be read.
type attack struct {
	name, check, code string
	make              func(testing.TB) *sample
}

func template(role string, edit func(*x509.Certificate)) func(*simulated.Chip) {
	return func(c *simulated.Chip) {
		c.Edit = func(r string, t *x509.Certificate) {
			if r == role {
				edit(t)
			}
		}
	}
}

// extension replaces an extension's value, or drops it when value is nil.
func extension(id asn1.ObjectIdentifier, value []byte) func(*simulated.Chip) {
	return template("endorsement", func(t *x509.Certificate) {
		t.ExtraExtensions = slices.DeleteFunc(t.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
		if value != nil {
			t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: id, Value: value})
		}
	})
}

// attacks of one kind of endorsement key: csp is empty for a VCEK.
func chainAttacks(ek, ica, csp string) []attack {
	c := func(who, what string) string { return "hardware/sev-snp/" + who + "-" + what }
	far := func(t *x509.Certificate) { t.NotBefore = now.Add(time.Hour) }
	past := func(t *x509.Certificate) { t.NotAfter = now.Add(-time.Minute) }
	notCA := func(t *x509.Certificate) { t.IsCA = false }
	chip := func(edit func(*simulated.Chip)) func(testing.TB) *sample {
		return func(t testing.TB) *sample { return as(t, csp, 2, edit) }
	}
	given := func(item string, data []byte) func(testing.TB) *sample {
		return func(t testing.TB) *sample {
			return as(t, csp, 2, nil).with(func(s *sample) {
				if data == nil {
					delete(s.col, item)
				} else {
					s.col[item] = data
				}
			})
		}
	}
	wrongID, wrongText := kds.OidCspID, []byte{asn1.TagIA5String, 1, 'x'}
	if csp != "" {
		wrongID, wrongText = kds.OidHwid, make([]byte, 64)
	}
	return []attack{
		{"no certificate", "", c(ek, "missing"), given(ek, nil)},
		{"empty certificate", "", c(ek, "malformed"), given(ek, []byte{})},
		{"two certificates", "", c(ek, "malformed"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			s.col[ek] = append(slices.Clone(s.chip.RootPEM()), s.chip.RootPEM()...)
			return s
		}},
		{"not yet valid", "endorsement key: dates", c(ek, "not-yet-valid"), chip(template("endorsement", far))},
		{"expired", "endorsement key: dates", c(ek, "expired"), chip(template("endorsement", past))},
		{"issued by another name", "endorsement key: issuer", c(ek, "issuer"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			other := as(t, csp, 2, template("ask", func(t *x509.Certificate) { t.Subject.Organization = []string{"another"} }))
			s.col[hardware.ASK] = other.col[hardware.ASK]
			return s
		}},
		{"issued by no intermediate", "product matches", c(ek, "issuer"), chip(template("ask", func(t *x509.Certificate) { t.Subject.CommonName = "SEV" }))},
		{"signed by another", "endorsement key: signature", c(ek, "signature"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			other := by(t, vendors()[1], csp, 2, func(c *simulated.Chip) { c.ID = s.chip.Chip.ID })
			other.col[hardware.ASK], other.col[hardware.ARK], other.opts = s.col[hardware.ASK], s.col[hardware.ARK], s.opts
			return other
		}},
		{"signed with PKCS 1", "endorsement key: signature algorithm", c(ek, "signature-algorithm"),
			chip(template("endorsement", func(t *x509.Certificate) { t.SignatureAlgorithm = x509.SHA256WithRSA }))},
		{"another subject", "endorsement key: subject", c(ek, "subject"),
			chip(template("endorsement", func(t *x509.Certificate) { t.Subject.CommonName = "SEV-XCEK" }))},
		{"P-256", "endorsement key: curve", c(ek, "key"), chip(func(c *simulated.Chip) { c.Curve = elliptic.P256() })},
		{"an extension missing", "endorsement key: extensions", c(ek, "extension-missing"), chip(extension(kds.OidSpl4, nil))},
		{"no product name", "product known", c(ek, "extension-missing"), chip(extension(kds.OidProductName1, nil))},
		{"a level of two numbers", "endorsement key: extensions", c(ek, "extension-malformed"), chip(extension(kds.OidSpl5, []byte{2, 1, 0, 2, 1, 0}))},
		{"a level above 255", "endorsement key: extensions", c(ek, "extension-malformed"), chip(extension(kds.OidSpl5, []byte{2, 2, 1, 0}))},
		{"an unknown structure", "endorsement key: extensions", c(ek, "extension-malformed"), chip(extension(kds.OidStructVersion, []byte{2, 1, 9}))},
		{"product name in UTF-8", "product known", c(ek, "extension-malformed"), chip(extension(kds.OidProductName1, []byte("\x0c\x08Milan-B0")))},
		{"an extension of the other kind", "endorsement key: extensions", c(ek, "extension-unexpected"), chip(extension(wrongID, wrongText))},
		{"a critical extension", "endorsement key: extensions", c(ek, "extension-unexpected"),
			chip(template("endorsement", func(t *x509.Certificate) {
				t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			}))},

		{"no intermediate", "", c(ica, "missing"), given(hardware.ASK, nil)},
		{"intermediate is no certificate", "", c(ica, "malformed"), given(hardware.ASK, []byte("-----BEGIN CERTIFICATE-----\n!"))},
		{"intermediate not yet valid", "intermediate: dates", c(ica, "not-yet-valid"), chip(template("ask", far))},
		{"intermediate expired", "intermediate: dates", c(ica, "expired"), chip(template("ask", past))},
		{"intermediate no CA", "intermediate: is a CA", c(ica, "not-ca"), chip(template("ask", notCA))},
		{"intermediate may not certify", "intermediate: is a CA", c(ica, "not-ca"),
			chip(template("ask", func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageCRLSign }))},
		{"intermediate signed by another", "intermediate: signature", c(ica, "signature"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			other := by(t, vendors()[1], csp, 2, nil)
			delete(other.col, hardware.ARK)
			other.opts = s.opts
			return other
		}},
		{"intermediate revoked", "not revoked", c(ica, "revoked"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			return s.withCRL(t, s.chip, now, now.Add(time.Hour), s.chip.ASK)
		}},

		{"root is no certificate", "", c("ark", "malformed"), given(hardware.ARK, []byte{0x30, 0})},
		{"root not yet valid", "root: dates", c("ark", "not-yet-valid"), chip(template("ark", far))},
		{"root expired", "root: dates", c("ark", "expired"), chip(template("ark", past))},
		{"root no CA", "root: is a CA", c("ark", "not-ca"), chip(template("ark", notCA))},
		{"root of another product", "root: subject", c("ark", "subject"), chip(template("ark", func(t *x509.Certificate) { t.Subject.CommonName = "ARK-Genoa" }))},
		{"root revoked", "not revoked", c("ark", "revoked"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			return s.withCRL(t, s.chip, now, now.Add(time.Hour), s.chip.ARK)
		}},
		{"root not trusted", "", c("ark", "unknown"), func(t testing.TB) *sample {
			return as(t, csp, 2, nil).with(func(s *sample) { s.opts.SimulatedRoots, s.opts.BuiltInRoots = nil, true })
		}},
		{"root not trusted, same name", "", c("ark", "unknown"), func(t testing.TB) *sample {
			return as(t, csp, 2, nil).with(func(s *sample) { s.opts.SimulatedRoots = []*x509.Certificate{vendors()[1].ARK} })
		}},
		{"for another product", "product matches", c("product", "mismatch"), func(t testing.TB) *sample {
			return as(t, csp, 3, nil).with(func(s *sample) { s.put(t, 0x188, 0x19, 0x11) })
		}},

		{"no revocation list", "revocation list: present", c("crl", "missing"), func(t testing.TB) *sample {
			return as(t, csp, 2, nil).with(func(s *sample) { s.opts.RequireCRL = true })
		}},
		{"revocation list is none", "", c("crl", "malformed"), given(hardware.CRL, []byte{0x30, 0})},
		{"revocation list of another issuer", "revocation list: issuer", c("crl", "issuer"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			other := as(t, csp, 2, template("ark", func(t *x509.Certificate) { t.Subject.Organization = []string{"another"} }))
			return s.withCRL(t, other.chip, now, now.Add(time.Hour))
		}},
		{"revocation list of the future", "revocation list: not from the future", c("crl", "not-yet-valid"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			return s.withCRL(t, s.chip, now.Add(time.Hour), now.Add(2*time.Hour))
		}},
		{"revocation list stale", "revocation list: not stale", c("crl", "stale"), func(t testing.TB) *sample {
			s := as(t, csp, 2, nil)
			return s.withCRL(t, s.chip, now.Add(-2*time.Hour), now.Add(-time.Hour))
		}},
		{"revocation list signed by another", "revocation list: signature", c("crl", "signature"), func(t testing.TB) *sample {
			return as(t, csp, 2, nil).withCRL(t, vendors()[1], now, now.Add(time.Hour))
		}},
	}
}

func (s *sample) withCRL(t testing.TB, by *simulated.AMD, from, until time.Time, revoked ...*x509.Certificate) *sample {
	t.Helper()
	crl, err := by.CRL(from, until, revoked...)
	if err != nil {
		t.Fatal(err)
	}
	s.col[hardware.CRL] = crl
	return s
}

func reportAttacks() []attack {
	c := func(what string) string { return "hardware/sev-snp/" + what }
	at := func(version uint32, offset int, bytes ...byte) func(testing.TB) *sample {
		return func(t testing.TB) *sample { return as(t, "", version, nil).put(t, offset, bytes...) }
	}
	policy := func(p uint64) func(testing.TB) *sample {
		return func(t testing.TB) *sample { return as(t, "", 2, nil).putPolicy(t, p) }
	}
	size := func(n int) func(testing.TB) *sample {
		return func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.raw = append(s.raw, 0)[:n] })
		}
	}
	attacks := []attack{
		{"empty", "", c("report-size"), size(0)},
		{"one byte short", "", c("report-size"), size(1183)},
		{"one byte long", "", c("report-size"), size(1185)},
		{"version 1", "report version", c("report-version"), at(2, 0, 1)},
		{"version 6", "report version", c("report-version"), at(3, 0, 6)},
		{"reserved at 4Ch", "report: reserved bytes", c("report-reserved"), at(2, 0x4C, 1)},
		{"reserved at 188h in version 2", "report: reserved bytes", c("report-reserved"), at(2, 0x188, 0x19)},
		{"reserved at 18Bh in version 3", "report: reserved bytes", c("report-reserved"), at(3, 0x18B, 1)},
		{"reserved at 1F8h in version 3", "report: reserved bytes", c("report-reserved"), at(3, 0x1F8, 1)},
		{"reserved at 208h in version 5", "report: reserved bytes", c("report-reserved"), at(5, 0x208, 1)},
		{"reserved at 29Fh", "report: reserved bytes", c("report-reserved"), at(2, 0x29F, 1)},
		{"reserved at 1EBh", "report: reserved bytes", c("report-reserved"), at(2, 0x1EB, 1)},
		{"reserved at 1EFh", "report: reserved bytes", c("report-reserved"), at(2, 0x1EF, 1)},
		{"reserved after the signature", "report: reserved bytes", c("report-reserved"), func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.raw[0x330] = 1 })
		}},
		{"policy bit 17 clear", "guest policy: reserved bits", c("guest-policy-reserved"), policy(1 << 16)},
		{"policy bit 26 set", "guest policy: reserved bits", c("guest-policy-reserved"), policy(1<<26 | 1<<17)},
		{"policy bit 63 set", "guest policy: reserved bits", c("guest-policy-reserved"), policy(1<<63 | 1<<17)},
		{"platform information bit 6", "platform information: reserved bits", c("platform-info-reserved"), at(2, 0x40, 1<<6)},
		{"platform information bit 8", "platform information: reserved bits", c("platform-info-reserved"), at(2, 0x41, 1)},
		{"signer bit 5", "signer: reserved bits", c("signer-info-reserved"), at(2, 0x48, 1<<5)},
		{"signing key 2", "signer: reserved bits", c("signer-info-reserved"), at(2, 0x48, 2<<2)},
		{"unsigned", "signer: the report is signed", c("report-unsigned"), at(2, 0x48, 7<<2)},
		{"chip key masked", "signer: the chip's key is not masked", c("chip-key-masked"), at(2, 0x48, 1<<1)},
		{"algorithm 2", "signature algorithm", c("signature-algorithm"), at(2, 0x34, 2)},
		{"VMPL 4", "VMPL", c("vmpl"), at(2, 0x30, 4)},
		{"VMPL of the host", "VMPL", c("vmpl"), at(2, 0x30, 0xff, 0xff, 0xff, 0xff)},
		{"debug", "no debugging", c("debug"), policy(1<<19 | 1<<17)},
		{"migration agent", "no migration agent allowed", c("migration-agent"), policy(1<<18 | 1<<17)},
		{"migration agent present", "no migration agent present", c("migration-agent-present"), at(2, 0x160, 1)},
		{"unknown processor", "product known", c("product-unknown"), func(t testing.TB) *sample {
			// With a chain of no product, so that this check alone stands in the way.
			return as(t, "", 3, func(c *simulated.Chip) {
				c.Edit = func(role string, t *x509.Certificate) {
					if cn, ok := strings.CutSuffix(t.Subject.CommonName, "Milan"); ok {
						t.Subject.CommonName = cn
					}
				}
			}).put(t, 0x188, 0x17, 1)
		}},
		{"unknown product name", "product known", c("product-unknown"), func(t testing.TB) *sample {
			return as(t, "", 2, extension(kds.OidProductName1, []byte("\x16\x08Naple-B0")))
		}},
		{"version 3 unseen", "seen before", "hardware/unseen", func(t testing.TB) *sample {
			return as(t, "", 3, nil).with(func(s *sample) { s.opts.AdmitUnseen = false })
		}},
		{"Genoa unseen", "seen before", "hardware/unseen", func(t testing.TB) *sample {
			return as(t, "", 2, func(c *simulated.Chip) { c.Product = "Genoa-B1" }).with(func(s *sample) { s.opts.AdmitUnseen = false })
		}},
		{"VLEK unseen", "seen before", "hardware/unseen", func(t testing.TB) *sample {
			return as(t, "provider", 2, nil).with(func(s *sample) { s.opts.AdmitUnseen = false })
		}},
		{"TCB part 4", "TCB: reserved parts", c("tcb-reserved"), at(2, 0x182, 1)},
		{"TCB part 6 of Turin", "TCB: reserved parts", c("tcb-reserved"), func(t testing.TB) *sample {
			return as(t, "", 3, turinChip).put(t, 0x186, 1)
		}},
		{"reported above current", "TCB: reported not above current", c("tcb-reported-above-current"), func(t testing.TB) *sample {
			// The committed level follows, so that only this order is broken.
			return as(t, "", 2, nil).put(t, 0x38, 3).put(t, 0x1E0, 3)
		}},
		{"committed above current", "TCB: committed not above current", c("tcb-committed-above-current"), at(2, 0x1E0, 5)},
		{"firmware committed above current", "firmware: committed not above current", c("firmware-committed-above-current"), at(2, 0x1EC, 0, 56, 1)},
		{"certificate's reserved level", "TCB: certificate's reserved parts", c("certificate-tcb-reserved"), func(t testing.TB) *sample {
			return as(t, "", 2, extension(kds.OidSpl6, []byte{2, 1, 1}))
		}},
		{"chip id masked", "chip id not masked", c("chip-id-masked"), func(t testing.TB) *sample {
			return as(t, "", 2, func(c *simulated.Chip) { c.ID = [64]byte{} })
		}},
		{"chip id", "chip id", c("chip-id"), at(2, 0x1A0, 1, 2, 3)},
		{"chip id of Turin, too long", "chip id", c("chip-id"), func(t testing.TB) *sample {
			return as(t, "", 3, turinChip).put(t, 0x1A8, 1)
		}},
		{"chip id of Turin absent", "endorsement key: extensions", c("vcek-extension-missing"), func(t testing.TB) *sample {
			return as(t, "", 3, func(c *simulated.Chip) { turinChip(c); extension(kds.OidHwid, nil)(c) }).put(t, 0x1A0, make([]byte, 64)...)
		}},
		{"report changed", "report: signature", c("report-signature"), func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.raw[0x90] ^= 1 })
		}},
		{"signature is zero", "report: signature", c("report-signature"), func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { clear(s.raw[0x2A0:]) })
		}},
		{"item too large", "", "hardware/collateral-size", func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.col["x"] = make([]byte, hardware.MaxCollateralBytes+1) })
		}},
		{"no time", "", "hardware/options", func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.opts.Now = time.Time{} })
		}},
		{"no roots", "", "hardware/options", func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.opts.SimulatedRoots = nil })
		}},
		{"no minimum", "", "hardware/options", func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.opts.MinimumTCB = nil })
		}},
		{"no options", "", "hardware/options", func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.opts = sevsnp.Options{} })
		}},
	}
	// Turin's layout: every component has a byte of its own.
	for i, name := range []string{"fmc", "bootloader", "tee", "snp"} {
		attacks = append(attacks,
			attack{name + " of the certificate", "TCB: certificate for the reported level", c("certificate-tcb-" + name), func(t testing.TB) *sample {
				return as(t, "", 3, turinChip).put(t, 0x180+i, byte(i))
			}},
			attack{name + " below the minimum", "TCB: minimum", c("minimum-tcb-" + name), func(t testing.TB) *sample {
				return as(t, "", 3, turinChip).with(func(s *sample) {
					m := map[string]sevsnp.TCB{"fmc": {FMC: 2}, "bootloader": {Bootloader: 3}, "tee": {TEE: 4}, "snp": {SNP: 5}}[name]
					s.opts.MinimumTCB = &m
				})
			}})
	}
	return append(attacks,
		attack{"microcode of the certificate", "TCB: certificate for the reported level", c("certificate-tcb-microcode"), at(2, 0x187, 1)},
		attack{"microcode below the minimum", "TCB: minimum", c("minimum-tcb-microcode"), func(t testing.TB) *sample {
			return as(t, "", 2, nil).with(func(s *sample) { s.opts.MinimumTCB = &sevsnp.TCB{Microcode: 214} })
		}})
}

func turinChip(c *simulated.Chip) {
	c.Product, c.TCB = "Turin-B0", sevsnp.TCB{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}
}

func allAttacks() []attack {
	all := append(reportAttacks(), chainAttacks("vcek", "ask", "")...)
	for _, a := range chainAttacks("vlek", "asvk", "provider") {
		a.name = "VLEK: " + a.name
		all = append(all, a)
	}
	return all
}

func TestAttacks(t *testing.T) {
	p := hardwaretest.Platform{
		Name:   "sev-snp",
		Checks: sevsnp.Checks(),
		Overlaps: func(check string) bool {
			return strings.HasSuffix(check, "known") || strings.HasSuffix(check, "matches")
		},
		Through: func(t testing.TB, claims *hardware.Claims) {
			if !claims.Simulated {
				t.Error("a forgery under a simulated root is not claimed to be simulated")
			}
		},
	}
	for _, a := range allAttacks() {
		p.Attacks = append(p.Attacks, hardwaretest.Attack{
			Name: a.name, Code: hardware.Code(a.code), Check: a.check,
			Make: func(t testing.TB) func(string) (*hardware.Claims, error) {
				s := a.make(t)
				return func(without string) (*hardware.Claims, error) {
					return sevsnp.VerifyWithout(without, s.raw, s.col, s.opts)
				}
			},
		})
	}
	p.Test(t)
}

// Each attack's twin without the change is accepted.
func TestTwins(t *testing.T) {
	for _, csp := range []string{"", "provider"} {
		for version := uint32(2); version <= 5; version++ {
			for _, product := range []string{"Milan-B0", "Genoa-B1", "Turin-B0"} {
				if product == "Turin-B0" && version == 2 {
					continue // Turin's firmware has never had version 2
				}
				s := as(t, csp, version, func(c *simulated.Chip) {
					c.Product = product
					if product == "Turin-B0" {
						turinChip(c)
					}
				})
				s.withCRL(t, s.chip, now.Add(-time.Hour), now.Add(time.Hour))
				s.opts.RequireCRL = true
				s.opts.MinimumTCB = &s.chip.Chip.TCB
				claims, err := sevsnp.Verify(s.raw, s.col, s.opts)
				if err != nil {
					t.Errorf("%s, version %d, provider %q: %v", product, version, csp, err)
					continue
				}
				if !claims.Simulated || claims.Isolation != hardware.None {
					t.Errorf("claims of a simulated root: simulated %v, isolation %s", claims.Simulated, claims.Isolation)
				}
				if seen := version == 2 && product == "Milan-B0" && csp == ""; seen != (len(claims.Unseen) == 0) {
					t.Errorf("%s, version %d, provider %q: unseen %q", product, version, csp, claims.Unseen)
				}
				if got := slices.Sorted(maps.Keys(claims.TCB["reported"])); (len(got) == 5) != (product == "Turin-B0") {
					t.Errorf("%s: TCB components %q", product, got)
				}
			}
		}
	}
}
