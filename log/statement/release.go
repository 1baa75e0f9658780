package statement

import (
	"strconv"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// ReleaseSubject is the name of the subject by which a rebuild statement names
// the release. No artefact may have it.
const ReleaseSubject = "release"

const maxRegisterValues = 16

// Release says: these artefacts are this version of the product, built by this
// recipe from this source, and a machine that runs them measures this.
type Release struct {
	Product       string        `json:"product"`
	Version       string        `json:"version"`
	SecurityEpoch int64         `json:"securityEpoch"` // at least 1, only grows
	Source        Source        `json:"source"`
	Recipe        Reference     `json:"recipe"`
	Lock          Reference     `json:"lock"`
	Builder       Builder       `json:"builder"`
	Volumes       []Volume      `json:"volumes"`
	Measurements  []Measurement `json:"measurements"`
	NotCovered    []NotCovered  `json:"notCovered"`
}

// Source is where the source code is, by commit: 40 or 64 hex digits.
type Source struct {
	URI    string `json:"uri"`
	Commit string `json:"commit"`
}

// Reference names bytes that are stored beside the log under their digest.
type Reference struct {
	Digest Digest `json:"digest"`
	Name   string `json:"name"`
}

// BuilderID is the one builder that this project has.
const BuilderID = "https://vitrine.dev/builder/v1"

// Builder is what built the artefacts.
type Builder struct {
	ID      string `json:"id"` // [BuilderID]
	Version string `json:"version"`
}

// Volume is a dm-verity protected volume. VerityRoot is its root hash, 32 bytes
// in hex.
type Volume struct {
	Name       string `json:"name"`
	VerityRoot string `json:"verityRoot"`
	SizeBytes  int64  `json:"sizeBytes"`
}

// Measurement is what one shape of one platform measures when it runs the
// artefacts. Registers names every mandatory register of the platform.
type Measurement struct {
	Platform  string              `json:"platform"`
	Shape     string              `json:"shape"`
	Registers map[string]Register `json:"registers"`
}

// Register says what a register may hold: one of some values (lower-case hex of
// the register's length), or anything, for a reason. Exactly one is set.
type Register struct {
	OneOf []string `json:"oneOf,omitempty"`
	Any   string   `json:"any,omitempty"`
}

// NotCovered names something that the measurement says nothing about.
type NotCovered struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func (*Release) predicateType() string { return ReleaseType }

func (r *Release) validate(subjects []Subject) error {
	for i, s := range subjects {
		if err := checkArtefact("/subject/"+strconv.Itoa(i)+"/name", s.Name); err != nil {
			return err
		}
	}
	const at = "/predicate"
	if err := first(
		checkName(at+"/product", r.Product),
		checkVersion(at+"/version", r.Version),
		checkPositive(at+"/securityEpoch", r.SecurityEpoch),
		r.Source.validate(at+"/source"),
		r.Recipe.validate(at+"/recipe"),
		r.Lock.validate(at+"/lock"),
		r.Builder.validate(at+"/builder"),
		validateVolumes(at+"/volumes", r.Volumes),
	); err != nil {
		return err
	}
	if len(r.Measurements) == 0 {
		return ijson.Errorf(at+"/measurements", "empty; a release says what at least one platform measures")
	}
	seen := map[[2]string]bool{}
	for i, m := range r.Measurements {
		here := at + "/measurements/" + strconv.Itoa(i)
		if err := m.validate(here); err != nil {
			return err
		}
		key := [2]string{m.Platform, m.Shape}
		if seen[key] {
			return ijson.Errorf(here+"/shape", "platform %s has shape %q twice; put all values of a register into one oneOf", m.Platform, m.Shape)
		}
		seen[key] = true
	}
	for i, n := range r.NotCovered {
		here := at + "/notCovered/" + strconv.Itoa(i)
		if err := first(checkName(here+"/what", n.What), checkText(here+"/why", n.Why)); err != nil {
			return err
		}
	}
	return nil
}

func checkArtefact(path, name string) error {
	if name == ReleaseSubject {
		return ijson.Errorf(path, "no artefact may be called %q: in a rebuild statement that is the release itself", ReleaseSubject)
	}
	return checkName(path, name)
}

func checkPositive(path string, n int64) error {
	if n < 1 || n > ijson.MaxInt {
		return ijson.Errorf(path, "%d is not from 1 to 2^53-1", n)
	}
	return nil
}

func (s Source) validate(path string) error {
	if err := checkText(path+"/uri", s.URI); err != nil {
		return err
	}
	return placed(path+"/commit", CheckCommit(s.Commit))
}

func (r Reference) validate(path string) error {
	return first(checkDigest(path+"/digest", r.Digest), checkName(path+"/name", r.Name))
}

func (b Builder) validate(path string) error {
	if b.ID != BuilderID {
		return ijson.Errorf(path+"/id", "%q is not %s", ijson.Clip(b.ID), BuilderID)
	}
	return checkText(path+"/version", b.Version)
}

func validateVolumes(path string, volumes []Volume) error {
	seen := map[string]bool{}
	for i, v := range volumes {
		here := path + "/" + strconv.Itoa(i)
		if err := first(
			checkName(here+"/name", v.Name),
			checkHex(here+"/verityRoot", v.VerityRoot, 32),
			checkPositive(here+"/sizeBytes", v.SizeBytes),
		); err != nil {
			return err
		}
		if seen[v.Name] {
			return ijson.Errorf(here+"/name", "volume %q stands twice", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}

func (m Measurement) validate(path string) error {
	if len(Registers(m.Platform)) == 0 {
		return ijson.Errorf(path+"/platform", "%q is not a known platform", ijson.Clip(m.Platform))
	}
	if err := checkName(path+"/shape", m.Shape); err != nil {
		return err
	}
	at := path + "/registers"
	// In the table's order, so that the same fault is always told the same way.
	for _, name := range MandatoryRegisters(m.Platform) {
		if _, ok := m.Registers[name]; !ok {
			return ijson.Errorf(at, "register %q is missing; %s must state it, or say any with the reason", name, m.Platform)
		}
	}
	for name := range m.Registers {
		if _, ok := RegisterBytes(m.Platform, name); !ok {
			return ijson.Errorf(ijson.Join(at, ijson.Clip(name)), "%s has no such register", m.Platform)
		}
	}
	for _, name := range Registers(m.Platform) {
		register, ok := m.Registers[name]
		if !ok {
			continue
		}
		n, _ := RegisterBytes(m.Platform, name)
		if err := register.validate(at+"/"+name, n); err != nil {
			return err
		}
	}
	return nil
}

func (r Register) validate(path string, bytes int) error {
	switch {
	case len(r.OneOf) > 0 && r.Any != "":
		return ijson.Errorf(path, "both oneOf and any; write one of them")
	case r.Any != "":
		return checkText(path+"/any", r.Any)
	case len(r.OneOf) == 0:
		return ijson.Errorf(path, "neither oneOf nor any; write one of them")
	case len(r.OneOf) > maxRegisterValues:
		return ijson.Errorf(path+"/oneOf", "%d values; the limit is %d", len(r.OneOf), maxRegisterValues)
	}
	seen := map[string]bool{}
	for i, value := range r.OneOf {
		here := path + "/oneOf/" + strconv.Itoa(i)
		if err := checkHex(here, value, bytes); err != nil {
			return err
		}
		if seen[value] {
			return ijson.Errorf(here, "the value stands twice")
		}
		seen[value] = true
	}
	return nil
}
