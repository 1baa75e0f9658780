package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// transparentError names what is wrong with a file of leaf and receipts.
func transparentError(err error) *hardware.Rejection {
	detail := err.Error()
	var e *receipt.Error
	if errors.As(err, &e) {
		detail = e.Detail
	}
	switch {
	case strings.Contains(detail, "/receipts: 0 receipts"):
		return hardware.Refuse("receipt/missing", "%s", detail)
	case strings.Contains(detail, "/receipts"):
		return hardware.Refuse("receipt/malformed", "%s", detail)
	}
	return hardware.Refuse("statement/malformed", "%s", detail)
}

// differing lists the registers in which a measurement and claims differ, in
// the order of the platform's table.
func differing(m statement.Measurement, claims *hardware.Claims) (differ, missing []string) {
	for _, name := range statement.MandatoryRegisters(m.Platform) {
		want, stated := m.Registers[name]
		got, measured := claims.Registers[name]
		switch {
		case !stated || !measured:
			missing = append(missing, name)
		case want.Any == "" && !slices.Contains(want.OneOf, got):
			differ = append(differ, name)
		}
	}
	// A register beyond the mandatory ones is as binding once it is stated.
	for name, want := range m.Registers {
		got, measured := claims.Registers[name]
		if slices.Contains(statement.MandatoryRegisters(m.Platform), name) {
			continue
		}
		if !measured {
			missing = append(missing, name)
		} else if want.Any == "" && !slices.Contains(want.OneOf, got) {
			differ = append(differ, name)
		}
	}
	return differ, missing
}

// openRegisters lists the registers that a measurement leaves open.
func openRegisters(m statement.Measurement) []string {
	var out []string
	for name, r := range m.Registers {
		if r.Any != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// matching returns the measurements of the statement that the claims equal.
func (a *appraisal) matching() []statement.Measurement {
	rel, r := a.release()
	if r != nil || a.claims == nil {
		return nil
	}
	var out []statement.Measurement
	for _, m := range rel.release.Measurements {
		if m.Platform != a.doc.Platform {
			continue
		}
		if differ, missing := differing(m, a.claims); len(differ)+len(missing) == 0 {
			out = append(out, m)
		}
	}
	return out
}

// judgeRegisters holds every register against one measurement of the statement
// as a whole: values of two shapes are never mixed.
func judgeRegisters(_ context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if a.claims == nil {
		return fail("registers/missing", "the evidence has no registers")
	}
	if len(statement.MandatoryRegisters(a.doc.Platform)) == 0 {
		return fail("registers/platform", "platform %s has no table of registers", a.doc.Platform)
	}
	if m := a.matching(); len(m) > 0 {
		n := len(m[0].Registers)
		return pass("all %d are those of %s %s on %s, shape %s", n, rel.release.Product, rel.release.Version, m[0].Platform, m[0].Shape)
	}

	// Nothing matches: tell about the measurement that comes closest.
	var closest *statement.Measurement
	var differ, missing []string
	for i, m := range rel.release.Measurements {
		if m.Platform != a.doc.Platform {
			continue
		}
		d, miss := differing(m, a.claims)
		if closest == nil || len(d)+len(miss) < len(differ)+len(missing) {
			closest, differ, missing = &rel.release.Measurements[i], d, miss
		}
	}
	switch {
	case closest == nil:
		return fail("registers/platform", "%s %s has no measurement for platform %s", rel.release.Product, rel.release.Version, a.doc.Platform)
	case len(missing) > 0:
		return fail("registers/missing", "%s: not in both the statement and the evidence", strings.Join(missing, ", "))
	}
	var parts []string
	for _, name := range differ {
		parts = append(parts, fmt.Sprintf("%s is %s and should be %s", name, clip(a.claims.Registers[name]), clip(strings.Join(closest.Registers[name].OneOf, " or "))))
	}
	return fail("registers/mismatch", "%s (shape %s of %s %s)", strings.Join(parts, "; "), closest.Shape, rel.release.Product, rel.release.Version)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// judgeOpenRegisters lets a statement leave a register open only where the
// policy says so too: a publisher alone cannot decide that something need not
// be measured.
func judgeOpenRegisters(_ context.Context, a *appraisal) finding {
	section := a.policy.Platform(a.doc.Platform)
	var allowed []string
	if section != nil {
		allowed = section.Any
	}
	var refused []string
	matching := a.matching()
	for _, m := range matching {
		names := openRegisters(m)
		if i := slices.IndexFunc(names, func(n string) bool {
			return !slices.Contains(allowed, n) || !policies.MayBeOpen(m.Platform, n)
		}); i >= 0 {
			refused = append(refused, fmt.Sprintf("%s (%s)", names[i], m.Registers[names[i]].Any))
			continue
		}
		if len(names) == 0 {
			return pass("none")
		}
		for _, n := range names {
			if n == "pcr0" {
				a.note("the firmware was not measured (pcr0 is open: %s), and every other PCR rests on the word of that firmware", m.Registers[n].Any)
			} else {
				a.note("%s is open: %s", n, m.Registers[n].Any)
			}
		}
		return pass("%s, as the policy allows", strings.Join(names, ", "))
	}
	if len(refused) > 0 {
		return fail("registers/any-not-allowed", "the statement leaves %s open, and the policy does not allow that", strings.Join(refused, ", "))
	}
	return pass("none")
}

// judgePublisher verifies the signature of the release.
func judgePublisher(_ context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	name, code, err := signedBy(rel.signed, a.policy.Publishers)
	if err != nil {
		return fail(code("statement/publisher", "statement/signature"), "the release statement: %v", err)
	}
	return pass("signed by %s", name)
}

// signedBy verifies a statement's signature with one of some keys. code chooses
// between the code for a signer who is not among them and the one for a
// signature that is not the signer's.
func signedBy(s *statement.Signed, keys []policies.Key) (name string, code func(unknown, bad hardware.Code) hardware.Code, err error) {
	key, err := s.VerifyAny(policies.PublicKeys(keys))
	if err != nil {
		bad := errors.Is(err, statement.ErrBadSignature)
		return "", func(u, b hardware.Code) hardware.Code {
			if bad {
				return b
			}
			return u
		}, err
	}
	return policies.KeyNamed(keys, key), nil, nil
}

func judgeProduct(_ context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if rel.release.Product != a.policy.Product {
		return fail("statement/product", "the release is of %s; the policy is for %s", rel.release.Product, a.policy.Product)
	}
	return pass("%s %s, identity %s", rel.release.Product, rel.release.Version, rel.signed.ID.String()[:16]+"…")
}
