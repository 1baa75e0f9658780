package builder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Shape is a machine that a release is measured for: what besides the artefacts
// decides its registers. Exactly one of TPM and SNP is set.
type Shape struct {
	Name string // "qemu-q35"
	TPM  *TPMShape
	SNP  *SNPShape
}

// TPMShape is a machine whose firmware measures disk.img into a TPM.
type TPMShape struct {
	Vars *io.SectionReader // UEFI variables before the first boot; nil: unknown
}

// SNPShape is a SEV-SNP machine that starts vmlinuz, initrd.cpio and cmdline
// directly.
type SNPShape struct {
	Firmware      *io.SectionReader // with a page for the hashes of the kernel
	VMM           measure.VMM
	VCPUs         int
	VCPUType      string // as QEMU names it
	GuestFeatures uint64
	Launch        measure.Launch
}

// StandardLaunch is how a machine has to be started for our images: guest policy
// 0x30000 (simultaneous multithreading allowed, no debugging, no migration
// agent, bit 17 as the ABI demands), VMPL 0, and nothing handed over by the
// host: HOST_DATA and ID_KEY_DIGEST are zero (SEV-SNP ABI 56860, 4.3).
var StandardLaunch = measure.Launch{GuestPolicy: 0x30000}

// OpenOutput reads what Build left in dir and compares each artefact with the
// manifest.
func OpenOutput(dir string) (*Output, error) {
	text, err := durable.ReadFile(filepath.Join(dir, ManifestName), maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("opening an image: %w: name a folder that vitrine build made", err)
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ManifestName), err)
	}
	for _, a := range m.Artefacts {
		f, err := os.Open(filepath.Join(dir, a.Name))
		if err != nil {
			return nil, fmt.Errorf("opening an image: %w: build it again", err)
		}
		err = compare(Input{Kind: "artefact", Name: a.Name, SHA256: a.SHA256, Size: a.Size}, f, io.Discard)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("opening an image: %s is not what %s says: build it again", filepath.Join(dir, a.Name), ManifestName)
		}
	}
	return newOutput(dir, m, text), nil
}

// Measure predicts what a machine of that shape measures of the image. Only the
// artefacts' files and the shape go in.
func (o *Output) Measure(shape Shape) (*measure.Result, error) {
	if (shape.TPM == nil) == (shape.SNP == nil) {
		return nil, fmt.Errorf("measuring for shape %q: it has to be of exactly one platform", shape.Name)
	}
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			f.Close()
		}
	}()
	section := func(name string) (*io.SectionReader, error) {
		path := o.Path(name)
		if path == "" {
			return nil, fmt.Errorf("measuring for shape %q: the image has no %s: its recipe lacks the kernel or the stub for it", shape.Name, name)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("measuring for shape %q: %w", shape.Name, err)
		}
		opened = append(opened, f)
		fi, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("measuring for shape %q: %w", shape.Name, err)
		}
		return io.NewSectionReader(f, 0, fi.Size()), nil
	}
	if shape.TPM != nil {
		uki, err := section(image.UKIName)
		if err != nil {
			return nil, err
		}
		disk, err := section(image.DiskName)
		if err != nil {
			return nil, err
		}
		return measure.TPM(measure.TPMInput{UKI: uki, Disk: disk, Vars: shape.TPM.Vars})
	}
	kernel, err := section(image.KernelName)
	if err != nil {
		return nil, err
	}
	initrd, err := section(image.InitrdName)
	if err != nil {
		return nil, err
	}
	commandLine, err := durable.ReadFile(o.Path(image.CmdlineName), 4096)
	if err != nil {
		return nil, fmt.Errorf("measuring for shape %q: %w", shape.Name, err)
	}
	text := string(commandLine)
	s := shape.SNP
	return measure.SNP(measure.SNPInput{
		Mode:          measure.ModeSNP,
		VMM:           s.VMM,
		Firmware:      s.Firmware,
		Kernel:        kernel,
		Initrd:        initrd,
		Cmdline:       &text,
		VCPUs:         s.VCPUs,
		VCPUType:      s.VCPUType,
		GuestFeatures: s.GuestFeatures,
		Launch:        &s.Launch,
	})
}

// Measurement turns a prediction into what a release states about a shape:
// every mandatory register, either with the one predicted value or as any, with
// the reason why it cannot be predicted.
func Measurement(shape string, r *measure.Result) (statement.Measurement, error) {
	m := statement.Measurement{Platform: r.Platform, Shape: shape, Registers: map[string]statement.Register{}}
	for _, name := range statement.MandatoryRegisters(r.Platform) {
		if value, ok := r.Registers[name]; ok {
			m.Registers[name] = statement.Register{OneOf: []string{value}}
			continue
		}
		why := r.Undetermined[name]
		if why == "" {
			return m, fmt.Errorf("stating what %s measures: register %s was neither predicted nor is there a reason", r.Platform, name)
		}
		m.Registers[name] = statement.Register{Any: why}
	}
	return m, nil
}

// ReleaseStatement says what was built from a recipe and a lock, and what it
// measures where.
func ReleaseStatement(o *Output, in Inputs, builderVersion string, measurements []statement.Measurement) (*statement.Statement, error) {
	if o.Manifest.Recipe != statement.DigestOf(in.Recipe).SHA256 || o.Manifest.Lock != statement.DigestOf(in.Lock).SHA256 {
		return nil, errors.New("making a release statement: the image was built from another recipe or lock: build it again")
	}
	recipe, lock, err := in.parse()
	if err != nil {
		return nil, err
	}
	r := &statement.Release{
		Product:       recipe.Product,
		Version:       recipe.Version,
		SecurityEpoch: recipe.SecurityEpoch,
		Source:        statement.Source{URI: recipe.Source.URI, Commit: recipe.Source.Commit},
		Recipe:        statement.Reference{Digest: statement.Digest{SHA256: recipe.sha256}, Name: "image.yaml"},
		Lock:          statement.Reference{Digest: statement.Digest{SHA256: lock.sha256}, Name: "image.lock"},
		Builder:       statement.Builder{ID: statement.BuilderID, Version: builderVersion},
		Volumes:       []statement.Volume{},
		Measurements:  measurements,
		NotCovered:    []statement.NotCovered{},
	}
	for _, v := range o.Manifest.Volumes {
		r.Volumes = append(r.Volumes, statement.Volume{Name: v.Name, VerityRoot: v.VerityRoot, SizeBytes: v.SizeBytes})
	}
	seen := map[string]bool{}
	for _, m := range measurements {
		for _, n := range standing[m.Platform] {
			if !seen[n.What] {
				r.NotCovered = append(r.NotCovered, n)
				seen[n.What] = true
			}
		}
	}
	s := &statement.Statement{Predicate: r}
	for _, a := range o.Artefacts {
		s.Subjects = append(s.Subjects, statement.Subject{Name: a.Name, Digest: statement.Digest{SHA256: a.SHA256}})
	}
	if _, err := s.Payload(); err != nil {
		return nil, fmt.Errorf("making a release statement: %w", err)
	}
	return s, nil
}

// Published gives the artefacts of a release as a manifest for Compare, without
// files unless the release's own manifest, an addendum, is at hand.
func Published(s *statement.Statement, manifest []byte) (*Manifest, error) {
	r, ok := s.Predicate.(*statement.Release)
	if !ok {
		return nil, errors.New("comparing with a release: the statement is none")
	}
	m := &Manifest{Product: r.Product, Version: r.Version, Recipe: r.Recipe.Digest.SHA256, Lock: r.Lock.Digest.SHA256}
	want := ""
	for _, a := range s.Subjects {
		m.Artefacts = append(m.Artefacts, Artefact{Name: a.Name, SHA256: a.Digest.SHA256})
		if a.Name == ManifestName {
			want = a.Digest.SHA256
		}
	}
	if manifest == nil {
		return m, nil
	}
	if got := statement.DigestOf(manifest).SHA256; got != want {
		return nil, fmt.Errorf("comparing with a release: its manifest has SHA-256 %s, and %s came", want, got)
	}
	full, err := ParseManifest(manifest)
	if err != nil {
		return nil, err
	}
	m.Files, m.CommandLine = full.Files, full.CommandLine
	return m, nil
}

// standing lists what no measurement of a platform says anything about. An
// entry goes only when something in the measured image makes it harmless.
var standing = map[string][]statement.NotCovered{
	measure.PlatformTPM: {
		{What: "host", Why: "whoever runs the virtual machine owns its TPM and can read its memory: the platform gives no isolation"},
		acpiTables, firmwareVariables, hostClock, writableDisks,
		{What: "firmware", Why: "PCR 0 is not predicted, and what measures everything else is the firmware"},
	},
	measure.PlatformSNP: {
		acpiTables, hostClock, writableDisks,
		{What: "host-devices", Why: "what virtual devices send is the host's word, and no measurement covers it"},
	},
}

var (
	acpiTables        = statement.NotCovered{What: "acpi-tables", Why: "the host writes them, the kernel interprets them, and no register that is compared covers them"}
	firmwareVariables = statement.NotCovered{What: "uefi-variables", Why: "only the variables of Secure Boot are measured into a register that is compared"}
	hostClock         = statement.NotCovered{What: "host-clock", Why: "the guest's time of day comes from the host"}
	writableDisks     = statement.NotCovered{What: "writable-disks", Why: "disks that are not volumes of the image may be attached; nothing in the image uses them"}
)

// newOutput adds the manifest to the artefacts that it lists.
func newOutput(dir string, m *Manifest, text []byte) *Output {
	o := &Output{Dir: dir, Manifest: m}
	own := Artefact{ManifestName, statement.DigestOf(text).SHA256, int64(len(text))}
	placed := false
	for _, a := range m.Artefacts {
		if !placed && strings.Compare(own.Name, a.Name) < 0 {
			o.Artefacts, placed = append(o.Artefacts, own), true
		}
		o.Artefacts = append(o.Artefacts, a)
	}
	if !placed {
		o.Artefacts = append(o.Artefacts, own)
	}
	return o
}
