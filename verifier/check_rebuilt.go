package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// judgeRebuilt counts the rebuilders, each by its key, who published that they
// got these very bits from source.
func judgeRebuilt(_ context.Context, a *appraisal) finding {
	want := a.policy.Rebuilders
	if want.Unchecked != "" {
		return unchecked(want.Unchecked)
	}
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if want.Threshold < 1 {
		return fail("rebuild/threshold", "the policy says nothing about rebuilders")
	}
	var reproduced, differed []string
	voices := map[[32]byte]bool{} // one key is one voice
	var foreign, unlogged error
	for i, raw := range a.doc.Rebuilds {
		t, signed, err := transparent(raw)
		if err != nil {
			return fail("rebuild/malformed", "rebuild %d of the evidence: %v", i+1, err)
		}
		rebuild, ok := signed.Rebuild()
		if !ok {
			return fail("rebuild/malformed", "rebuild %d of the evidence is a statement of another type", i+1)
		}
		key, err := signed.VerifyAny(policies.PublicKeys(want.Keys))
		if errors.Is(err, statement.ErrUnknownKey) {
			continue
		}
		if err != nil {
			return fail("rebuild/malformed", "rebuild %d of the evidence: %v", i+1, err)
		}
		name := policies.KeyNamed(want.Keys, key)
		if rebuild.Release.Digest != rel.signed.ID.Digest() || rebuild.Product != rel.release.Product || rebuild.Version != rel.release.Version {
			foreign = fmt.Errorf("the rebuild by %s is of another release, %s %s (%s)", name, rebuild.Product, rebuild.Version, clip(rebuild.Release.Digest.SHA256))
			continue
		}
		if !sameDigests(artefactsOf(signed.Statement.Subjects), rel.signed.Statement.Subjects) {
			foreign = fmt.Errorf("the rebuild by %s is of other artefacts", name)
			continue
		}
		if err := a.logged(t); err != nil {
			unlogged = fmt.Errorf("the rebuild by %s is not shown to be logged: %w", name, err)
			continue
		}
		switch rebuild.Outcome {
		case statement.Reproduced:
			if !voices[key.Hint()] {
				voices[key.Hint()] = true
				reproduced = append(reproduced, name)
			}
		case statement.NotReproduced:
			differed = append(differed, name)
		}
	}
	for _, name := range differed {
		a.note("%s built it from source and got something else", name)
	}
	if len(reproduced) >= want.Threshold {
		return pass("%d of %d rebuilders got the same bits, %d demanded: %s", len(reproduced), len(want.Keys), want.Threshold, strings.Join(reproduced, ", "))
	}
	missing := fmt.Sprintf("%d of the policy's rebuilders got the same bits; it demands %d", len(reproduced), want.Threshold)
	switch {
	case len(differed) > 0:
		return fail("rebuild/not-reproduced", "%s built it from source and got something else; %s", strings.Join(differed, ", "), missing)
	case foreign != nil:
		return fail("rebuild/release", "%v; %s", foreign, missing)
	case unlogged != nil:
		return fail("rebuild/threshold", "%s (%v)", missing, unlogged)
	}
	return fail("rebuild/threshold", "%s", missing)
}

// artefactsOf leaves out the subject by which a rebuild names the release.
func artefactsOf(subjects []statement.Subject) []statement.Subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(s statement.Subject) bool { return s.Name == statement.ReleaseSubject })
}

// judgeMachines has nothing to check with yet; it keeps a policy that says
// nothing about machines from passing for one that accepts any.
func judgeMachines(_ context.Context, a *appraisal) finding {
	if a.policy.Machines.Unchecked == "" {
		return fail("machines/unlisted", "the policy says nothing about machines, and no statement vouches for this one")
	}
	return unchecked(a.policy.Machines.Unchecked)
}

// judgeRules asks what only this policy's author thought of.
func judgeRules(ctx context.Context, a *appraisal) finding {
	rel, r := a.release()
	if r != nil {
		return refuse(r)
	}
	if a.claims == nil {
		return fail("rules/error", "there are no claims to hold rules against")
	}
	for _, rule := range a.policy.Rules {
		ok, err := rule.Holds(ctx, a.claims, rel.signed.Statement)
		switch {
		case err != nil:
			return fail("rules/error", "%v", err)
		case !ok:
			return fail("rules/failed", "the rule %q is not true", rule.Name)
		}
	}
	if len(a.policy.Rules) == 0 {
		return pass("the policy has none")
	}
	return pass("%d hold", len(a.policy.Rules))
}
