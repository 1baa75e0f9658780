package statement

import (
	"strconv"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Outcome is how a rebuild ended.
type Outcome string

const (
	// Reproduced: the same recipe and lock gave the same bits.
	Reproduced Outcome = "reproduced"
	// NotReproduced: they gave other bits. An alarm.
	NotReproduced Outcome = "not-reproduced"
	// CouldNotBuild: they gave none, for example since an input can no longer
	// be fetched. Not an alarm.
	CouldNotBuild Outcome = "could-not-build"
)

// Rebuild says: I built the release again, and this came out.
type Rebuild struct {
	Product     string      `json:"product"`
	Version     string      `json:"version"`
	Release     ReleaseRef  `json:"release"`
	Builder     Builder     `json:"builder"`
	Outcome     Outcome     `json:"outcome"`
	Got         []Reference `json:"got,omitempty"`         // [NotReproduced]: the artefacts that came out
	Explanation *Digest     `json:"explanation,omitempty"` // [NotReproduced]: an addendum that tells the difference
	Reason      string      `json:"reason,omitempty"`      // [CouldNotBuild]: why
}

// ReleaseRef names a release statement by its identity. Index is where it stood
// in the log, only a hint: it means nothing after a migration.
type ReleaseRef struct {
	Digest Digest `json:"digest"`
	Index  int64  `json:"index"`
}

func (*Rebuild) predicateType() string { return RebuildType }

func (r *Rebuild) validate(subjects []Subject) error {
	var release bool
	for i, s := range subjects {
		here := "/subject/" + strconv.Itoa(i)
		if s.Name != ReleaseSubject {
			if err := checkArtefact(here+"/name", s.Name); err != nil {
				return err
			}
			continue
		}
		release = true
		if s.Digest != r.Release.Digest {
			return ijson.Errorf(here+"/digest/sha256", "not the digest in /predicate/release; both are the identity of the release statement")
		}
	}
	if !release {
		return ijson.Errorf("/subject", "no subject is called %q; add the release statement's identity", ReleaseSubject)
	}
	if len(subjects) < 2 {
		return ijson.Errorf("/subject", "no artefact; name those of the release")
	}
	const at = "/predicate"
	if err := first(
		checkName(at+"/product", r.Product),
		checkVersion(at+"/version", r.Version),
		checkDigest(at+"/release/digest", r.Release.Digest),
		r.Builder.validate(at+"/builder"),
	); err != nil {
		return err
	}
	if r.Release.Index < 0 || r.Release.Index > ijson.MaxInt {
		return ijson.Errorf(at+"/release/index", "%d is not an index", r.Release.Index)
	}
	return r.validateOutcome(at, subjects)
}

func (r *Rebuild) validateOutcome(at string, subjects []Subject) error {
	if r.Outcome != NotReproduced {
		if len(r.Got) > 0 {
			return ijson.Errorf(at+"/got", "only for the outcome %s", NotReproduced)
		}
		if r.Explanation != nil {
			return ijson.Errorf(at+"/explanation", "only for the outcome %s", NotReproduced)
		}
	}
	if r.Outcome != CouldNotBuild && r.Reason != "" {
		return ijson.Errorf(at+"/reason", "only for the outcome %s", CouldNotBuild)
	}
	switch r.Outcome {
	case Reproduced:
		return nil
	case CouldNotBuild:
		if r.Reason == "" {
			return ijson.Errorf(at, "member \"reason\" is missing; %s says why", CouldNotBuild)
		}
		return checkText(at+"/reason", r.Reason)
	case NotReproduced:
		return r.validateDifference(at)
	}
	return ijson.Errorf(at+"/outcome", "%q is not %s, %s or %s", ijson.Clip(string(r.Outcome)), Reproduced, NotReproduced, CouldNotBuild)
}

func (r *Rebuild) validateDifference(at string) error {
	if r.Explanation == nil {
		return ijson.Errorf(at, "member \"explanation\" is missing; %s tells the difference in an addendum", NotReproduced)
	}
	if err := checkDigest(at+"/explanation", *r.Explanation); err != nil {
		return err
	}
	if len(r.Got) == 0 {
		return ijson.Errorf(at, "member \"got\" is missing; %s names the artefacts that came out", NotReproduced)
	}
	seen := map[string]bool{}
	for i, got := range r.Got {
		here := at + "/got/" + strconv.Itoa(i)
		if err := first(checkArtefact(here+"/name", got.Name), checkDigest(here+"/digest", got.Digest)); err != nil {
			return err
		}
		if seen[got.Name] {
			return ijson.Errorf(here+"/name", "%q stands twice", got.Name)
		}
		seen[got.Name] = true
	}
	return nil
}
