package verifier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
	"github.com/vitrine-dev/vitrine/verifier/hardware/tpm"
)

// judgeHardware asks the platform's own package whether the evidence is
// genuine, with the roots, keys and levels of the policy.
func judgeHardware(_ context.Context, a *appraisal) finding {
	section := a.policy.Platform(a.doc.Platform)
	if section == nil {
		return fail("policy/platform", "the evidence is of platform %s, which the policy does not accept", a.doc.Platform)
	}
	claims, err := a.verifyHardware(section)
	if err != nil {
		if r := rejection(err); r != nil {
			return refuse(r)
		}
		return fail("hardware/options", "the evidence cannot be appraised: %v", err)
	}
	a.claims = claims
	return pass("%s", describe(claims))
}

func (a *appraisal) verifyHardware(section *policies.Platform) (*hardware.Claims, error) {
	collateral := hardware.Collateral{}
	for _, e := range a.doc.Endorsements {
		collateral[e.Type] = e.Data
	}
	switch a.doc.Platform {
	case hardware.SEVSNP:
		return sevsnp.Verify(a.doc.Report, collateral, sevsnp.Options{
			Now:            a.now,
			BuiltInRoots:   true,
			SimulatedRoots: section.SimulatedRoots,
			MinimumTCB:     (*sevsnp.TCB)(&section.MinimumTCB),
		})
	case hardware.TPM:
		if a.doc.Quote == nil {
			return nil, hardware.Refuse("evidence/platform", "the evidence is of platform tpm and has no quote")
		}
		return tpm.Verify(tpm.Evidence{
			Attest:    a.doc.Quote.Attest,
			Signature: a.doc.Quote.Signature,
			AKPublic:  collateral[hardware.AKPublic],
			EventLog:  collateral[hardware.EventLog], // the PCRs' values are what it replays to
		}, tpm.Options{AttestationKeys: section.AttestationKeys})
	}
	return nil, hardware.Refuse("hardware/unknown-platform", "evidence of platform %s cannot be appraised by this program", a.doc.Platform)
}

func rejection(err error) *hardware.Rejection {
	var r *hardware.Rejection
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// describe says what kind of evidence it was, and what its trust ends in.
func describe(c *hardware.Claims) string {
	fact := func(name string) string {
		f, ok := c.Fact(name)
		if !ok {
			return "(unknown)"
		}
		return f.Value
	}
	var s string
	switch {
	case c.Platform == hardware.TPM:
		s = "a TPM's quote by the policy's key " + clip(fact("attestationKey"))
	case c.Simulated:
		s = fmt.Sprintf("SIMULATED: a report in the shape of AMD SEV-SNP (%s), under the root that the policy names, %s", fact("product"), clip(fact("root")))
	default:
		s = fmt.Sprintf("AMD SEV-SNP, a %s chip's report by its %s, under AMD's root", fact("product"), fact("signingKey"))
	}
	if len(c.Unseen) > 0 {
		s += "; accepted by specification alone: " + strings.Join(c.Unseen, ", ")
	}
	return s
}

// judgeIsolation holds what the hardware gives against what the policy demands.
func judgeIsolation(_ context.Context, a *appraisal) finding {
	section := a.policy.Platform(a.doc.Platform)
	if a.claims == nil || section == nil {
		return fail("policy/isolation", "nothing is known about the machine's isolation")
	}
	got := a.claims.Isolation
	if a.claims.Simulated {
		got = hardware.None
	}
	switch {
	case section.Isolation == hardware.None && got == hardware.None:
		return pass("none: whoever hosts the machine can read and change everything in it; the policy accepts that")
	case got == hardware.Confidential && (section.Isolation == hardware.Confidential || section.Isolation == hardware.None):
		return pass("confidential: the machine's memory is out of its host's reach")
	}
	return fail("policy/isolation", "the machine's isolation is %q; the policy demands %q", got, section.Isolation)
}

// judgeChallenge refuses evidence that was made for another question.
func judgeChallenge(_ context.Context, a *appraisal) finding {
	c := a.doc.Challenge
	if a.in.Nonce == nil {
		if c.Checkpoint == "" {
			return fail("binding/challenge", "evidence was asked for without a nonce, and this answers one of somebody else's")
		}
		return a.momentary("it answers a checkpoint, by which it is dated below")
	}
	if !bytes.Equal(c.Nonce, a.in.Nonce[:]) {
		return fail("binding/challenge", "the evidence answers another challenge than the nonce that was sent: it is older, or was made for somebody else")
	}
	return a.momentary("it answers the nonce that was sent, " + hex.EncodeToString(c.Nonce[:4]) + "…")
}

// momentary is a pass, or what stands for it when the moment is over.
func (a *appraisal) momentary(saw string) finding {
	if a.historical {
		return finding{result: Recorded, saw: "by the file, " + saw}
	}
	return pass("%s", saw)
}

// judgeTLSKey refuses evidence about another machine than the one that the
// connection ends in: a relay has to end TLS with a key of its own.
func judgeTLSKey(_ context.Context, a *appraisal) finding {
	if len(a.in.SPKI) == 0 || !bytes.Equal(a.in.SPKI, a.doc.TLSKey) {
		return fail("binding/tls-key", "the evidence is for TLS key %s, and this connection ends with key %s", keyID(a.doc.TLSKey), keyID(a.in.SPKI))
	}
	return a.momentary("this connection ends with the key of the evidence, " + keyID(a.in.SPKI))
}

func keyID(spki []byte) string {
	if len(spki) == 0 {
		return "(none)"
	}
	h := sha256.Sum256(spki)
	return "sha256:" + hex.EncodeToString(h[:8]) + "…"
}

// judgeUserData makes the hardware's signature cover challenge, keys and
// release: H over what stands in the document must be what was signed.
func judgeUserData(_ context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	h, err := a.doc.UserData(rel.signed.LeafHash())
	if err != nil {
		return fail("evidence/malformed", "the user data cannot be computed: %v", err)
	}
	want := h[:]
	if a.doc.Platform == hardware.TPM {
		q := evidence.QuoteData(h)
		want = q[:]
	}
	if a.claims == nil || !bytes.Equal(a.claims.UserData, want) {
		return fail("binding/user-data", "what the hardware signed is not the hash over this challenge, these keys and this release's leaf")
	}
	parts := []string{"challenge", "TLS key", "release"}
	if len(a.doc.HPKEKey) > 0 {
		parts = append(parts, "HPKE key")
	}
	if len(a.doc.DeviceEvidence) > 0 {
		parts = append(parts, "device evidence")
		a.note("the devices' evidence is bound to the machine's and was not appraised")
	}
	return pass("the hardware signed %s", strings.Join(parts, ", "))
}

func (a *appraisal) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}
