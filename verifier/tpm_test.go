package verifier

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

var quoter = sync.OnceValue(func() *simulated.TPM {
	t, err := simulated.NewTPM(elliptic.P256())
	if err != nil {
		panic(err)
	}
	return t
})

// quote has the scene's TPM vouch for its boot.
func (s *scene) quote(d *evidence.Document, leaf []byte) {
	t := s.t
	d.Platform = "tpm"
	h := must[[64]byte](t)(d.UserData(statement.LeafHash(leaf)))
	extra := evidence.QuoteData(h)
	e, err := s.tpm.Quote(extra[:], pcrValues(s.boot))
	if err != nil {
		t.Fatal(err)
	}
	d.Quote = &evidence.Quote{Attest: e.Attest, Signature: e.Signature}
	d.Endorsements = []evidence.Endorsement{
		{Type: hardware.AKPublic, Data: e.AKPublic},
		{Type: hardware.EventLog, Data: simulated.EventLog(s.boot)},
	}
	if s.edit != nil {
		s.edit(d)
	}
}

// pcrValues are those of the PCRs that a node quotes.
func pcrValues(boot []simulated.Event) map[int][32]byte {
	values := map[int][32]byte{}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15} {
		values[i] = [32]byte{}
	}
	for i, v := range simulated.Replay(boot) {
		values[i] = v
	}
	return values
}

func event(pcr uint32, data string) simulated.Event {
	return simulated.Event{PCR: pcr, Type: 0xd, Digest: sha256.Sum256([]byte(data)), Data: []byte(data)}
}

// newTPMScene is a machine whose boot a TPM measured, and whose firmware the
// release leaves open.
func newTPMScene(t testing.TB) *scene {
	s := newScene(t)
	s.tpm = quoter()
	s.boot = []simulated.Event{event(0, "firmware"), event(1, "settings"), event(4, "uki"), event(11, "sections"), event(12, "command line"), event(9, "initrd")}
	registers := map[string]statement.Register{}
	for i, v := range pcrValues(s.boot) {
		name := fmt.Sprintf("pcr%d", i)
		if _, ok := statement.RegisterBytes("tpm", name); ok {
			registers[name] = statement.Register{OneOf: []string{hex.EncodeToString(v[:])}}
		}
	}
	registers["pcr0"] = statement.Register{Any: "the machine's own firmware"}
	s.rel().Measurements = append(s.rel().Measurements, statement.Measurement{Platform: "tpm", Shape: "qemu-q35", Registers: registers})
	s.speak()

	text := policyText(t)
	der := must[[]byte](t)(x509.MarshalPKIXPublicKey(s.tpm.Key.Public()))
	ak := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	text = text[:strings.Index(text, "platforms:")] + `platforms:
  - platform: tpm
    isolation: none
    attestationKeys:
      - |
` + indent(ak, 8) + `
    any: [pcr0]
rules: []
`
	s.policy = must[*policies.Policy](t)(policies.Parse("tpm.yaml", []byte(text)))
	return s
}

// TestTPM: a measured boot is measured and not confidential, and an unmeasured
// firmware is said to be one.
func TestTPM(t *testing.T) {
	v, err := newTPMScene(t).appraise(checks)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines(v))
	}
	if want := "measured, not confidential: a tpm machine runs hello-inference 1.2.0; its host can read everything"; v.Sentence() != want {
		t.Errorf("sentence %q, want %q", v.Sentence(), want)
	}
	if n := strings.Join(v.Notes, "\n"); !strings.Contains(n, "the firmware was not measured (pcr0 is open: the machine's own firmware), and every other PCR rests on the word of that firmware") {
		t.Errorf("notes %q", n)
	}
	if strings.Contains(strings.Join(v.Lines(), "\n"), "verified") {
		t.Error("the word verified stands in a verdict about a machine without isolation")
	}
}

func TestTPMAttacks(t *testing.T) {
	tests := []struct {
		name   string
		code   hardware.Code
		detail string
		attack func(*scene)
	}{
		{"another image", "registers/mismatch", "pcr4 is ", func(s *scene) { s.boot[2] = event(4, "another uki") }},
		{"another command line", "registers/mismatch", "pcr12 is ", func(s *scene) { s.boot[4] = event(12, "init=/bin/sh") }},
		{"something more", "registers/mismatch", "pcr13 is ", func(s *scene) { s.boot = append(s.boot, event(13, "a credential")) }},
		{"a configuration", "registers/mismatch", "pcr15 is ", func(s *scene) { s.boot = append(s.boot, event(15, "config")) }},
		{"a log that hides it", "hardware/tpm/event-log-replay", "", func(s *scene) {
			honest := simulated.EventLog(s.boot)
			s.boot = append(s.boot, event(15, "config"))
			s.edit = func(d *evidence.Document) { d.Endorsements[1].Data = honest }
		}},
		{"no log", "hardware/tpm/pcr-values-missing", "", func(s *scene) {
			s.edit = func(d *evidence.Document) { d.Endorsements = d.Endorsements[:1] }
		}},
		{"a log that is none", "hardware/tpm/event-log-malformed", "", func(s *scene) {
			s.edit = func(d *evidence.Document) { d.Endorsements[1].Data = []byte("no log") }
		}},
		{"a quote that is none", "hardware/tpm/attest-malformed", "", func(s *scene) {
			s.edit = func(d *evidence.Document) { d.Quote.Attest = d.Quote.Attest[:20] }
		}},
		{"no quote", "evidence/platform", "", func(s *scene) { s.edit = func(d *evidence.Document) { d.Quote = nil } }},
		{"another TPM", "hardware/tpm/ak-unknown", "", func(s *scene) {
			s.tpm = must[*simulated.TPM](s.t)(simulated.NewTPM(elliptic.P256()))
		}},
		{"a quote for another key", "binding/user-data", "", func(s *scene) {
			s.seen = newSPKI()
			s.edit = func(d *evidence.Document) { d.TLSKey = s.seen }
		}},
		{"firmware left open without leave", "registers/any-not-allowed", "pcr0", func(s *scene) { s.policy.Platforms[0].Any = nil }},
		{"a policy that demands isolation", "policy/isolation", "", func(s *scene) { s.policy.Platforms[0].Isolation = hardware.Confidential }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTPMScene(t)
			tt.attack(s)
			v, err := s.appraise(checks)
			wantCode(t, err, tt.code)
			if !strings.Contains(v.Rejection.Detail, tt.detail) {
				t.Errorf("detail %q does not say %q", v.Rejection.Detail, tt.detail)
			}
		})
	}
}
