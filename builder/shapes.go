package builder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Machine is an entry of a recipe's shapes: a machine that the release states
// registers for. What decides those registers besides the artefacts stands
// here, and the firmware in the lock, so that a stranger predicts the same.
type Machine struct {
	Name     string
	Platform string // "tpm" or "sev-snp"

	// Firmware is, for tpm, the UEFI variables before the first boot, and for
	// sev-snp the firmware itself.
	Firmware FirmwareSource

	// For sev-snp only.
	VMM           measure.VMM
	VCPUs         int
	VCPUType      string
	GuestFeatures uint64
	GuestPolicy   uint64
}

// FirmwareSource is a file of a Debian package, a file beside the recipe, or the
// simulated firmware; exactly one.
type FirmwareSource struct {
	Package   string
	Path      string // of the file in Package, without a leading slash
	File      string
	Simulated bool // builder/measure/simulated; sev-snp only, and never on hardware
}

const (
	maxShapes        = 64
	maxFirmwareBytes = 64 << 20
)

var vmms = map[string]measure.VMM{"qemu": measure.VMMQEMU, "ec2": measure.VMMEC2, "gce": measure.VMMGCE}

func (r *Recipe) parseShapes(m *mapping) error {
	list, err := m.list("shapes", maxShapes)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, n := range list {
		machine, err := parseMachine(n)
		if err != nil {
			return err
		}
		if key := machine.Platform + "/" + machine.Name; seen[key] {
			return n.errorf("shapes: %s stands there twice: give each shape of a platform a name of its own", key)
		} else {
			seen[key] = true
		}
		r.Shapes = append(r.Shapes, machine)
	}
	return nil
}

func parseMachine(n node) (s Machine, err error) {
	m, err := n.mapping("name", "platform", "vars", "firmware", "vmm", "vcpus", "vcpuType", "guestFeatures", "guestPolicy")
	if err != nil {
		return s, err
	}
	if s.Name, err = m.text("name", checkName); err != nil {
		return s, err
	}
	if s.Platform, err = m.text("platform", func(p string) error {
		if p != measure.PlatformTPM && p != measure.PlatformSNP {
			return fmt.Errorf("%q is not a platform that can be predicted: write tpm or sev-snp", p)
		}
		return nil
	}); err != nil {
		return s, err
	}
	key, other := "vars", "firmware"
	if s.Platform == measure.PlatformSNP {
		key, other = other, key
	}
	if wrong, ok := m.find(other); ok {
		return s, wrong.errorf("%s: platform %s takes %s", other, s.Platform, key)
	}
	source, err := m.need(key)
	if err != nil {
		return s, err
	}
	if s.Firmware, err = parseFirmware(source, s.Platform == measure.PlatformSNP); err != nil {
		return s, err
	}
	if s.Platform == measure.PlatformTPM {
		for _, k := range []string{"vmm", "vcpus", "vcpuType", "guestFeatures", "guestPolicy"} {
			if wrong, ok := m.find(k); ok {
				return s, wrong.errorf("%s: it decides no register of platform tpm that is predicted: remove it", k)
			}
		}
		return s, nil
	}
	return s, s.parseSNP(m)
}

func (s *Machine) parseSNP(m *mapping) error {
	if _, err := m.text("vmm", func(v string) (err error) {
		var ok bool
		if s.VMM, ok = vmms[v]; !ok {
			err = fmt.Errorf("%q is not a VMM: write qemu, ec2 or gce", v)
		}
		return err
	}); err != nil {
		return err
	}
	if _, err := m.need("vcpus"); err != nil {
		return err
	}
	vcpus, err := m.integer("vcpus", 0, 1, 4096)
	if err != nil {
		return err
	}
	s.VCPUs = int(vcpus)
	if s.VCPUType, err = m.text("vcpuType", func(t string) error {
		_, err := measure.VCPUSignature(t)
		return err
	}); err != nil {
		return err
	}
	features, err := m.integer("guestFeatures", 1, 1, 1<<53-1)
	if err != nil {
		return err
	}
	s.GuestFeatures = uint64(features)
	_, err = m.text("guestPolicy", func(p string) (err error) {
		if len(p) != 16 {
			return fmt.Errorf("%q is not 16 hex digits: 0000000000030000 allows SMT and nothing else", p)
		}
		s.GuestPolicy, err = strconv.ParseUint(p, 16, 64)
		return err
	})
	return err
}

func parseFirmware(n node, mayBeSimulated bool) (s FirmwareSource, err error) {
	m, err := n.mapping("package", "path", "file", "simulated")
	if err != nil {
		return s, err
	}
	if s.Package, err = m.optionalText("package", checkPackage); err != nil {
		return s, err
	}
	if s.Path, err = m.optionalText("path", checkLocalPath); err != nil {
		return s, err
	}
	if s.File, err = m.optionalText("file", checkLocalPath); err != nil {
		return s, err
	}
	if s.Simulated, err = m.boolean("simulated"); err != nil {
		return s, err
	}
	if (s.Package == "") != (s.Path == "") {
		return s, n.errorf("a package goes with a path: name the file that is taken of it")
	}
	sources := 0
	for _, given := range []bool{s.Package != "", s.File != "", s.Simulated} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return s, n.errorf("expected exactly one of package with path, file, and simulated: true")
	case s.Simulated && !mayBeSimulated:
		return s, n.errorf("simulated: there is no simulated firmware for this platform")
	}
	return s, nil
}

// Measurements predicts what each shape of the recipe measures of the image,
// as a release states it. o says where inputs are cached; the recipe and lock
// in in are those that the image was built from.
func (o *Output) Measurements(ctx context.Context, in Inputs, cache Cache) ([]statement.Measurement, error) {
	recipe, err := ParseRecipe("image.yaml", in.Recipe)
	if err != nil {
		return nil, err
	}
	lock, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		return nil, err
	}
	if err := lock.matchRecipe(recipe); err != nil {
		return nil, &FormatError{"image.lock", 1, err.Error()}
	}
	if len(recipe.Shapes) == 0 {
		return nil, fmt.Errorf("predicting registers: the recipe names no shape: list under shapes the machines that the image is for")
	}
	if cache.Dir == "" {
		dir, err := os.MkdirTemp("", "vitrine-measure-*")
		if err != nil {
			return nil, fmt.Errorf("predicting registers: %w", err)
		}
		defer removeAll(dir)
		cache.Dir = dir
	}
	all := []statement.Measurement{}
	for _, machine := range recipe.Shapes {
		shape, err := machine.shape(ctx, lock, cache, in.Fetchers)
		if err != nil {
			return nil, fmt.Errorf("predicting registers for shape %s: %w", machine.Name, err)
		}
		result, err := o.Measure(shape)
		if err != nil {
			return nil, err
		}
		m, err := Measurement(machine.Name, result)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// shape reads the machine's firmware.
func (s Machine) shape(ctx context.Context, lock *Lock, cache Cache, fetchers []Fetcher) (Shape, error) {
	firmware, err := s.Firmware.read(ctx, lock, cache, fetchers)
	if err != nil {
		return Shape{}, err
	}
	section := io.NewSectionReader(bytes.NewReader(firmware), 0, int64(len(firmware)))
	if s.Platform == measure.PlatformTPM {
		return Shape{Name: s.Name, TPM: &TPMShape{Vars: section}}, nil
	}
	return Shape{Name: s.Name, SNP: &SNPShape{
		Firmware: section, VMM: s.VMM, VCPUs: s.VCPUs, VCPUType: s.VCPUType,
		GuestFeatures: s.GuestFeatures, Launch: measure.Launch{GuestPolicy: s.GuestPolicy},
	}}, nil
}

func (f FirmwareSource) read(ctx context.Context, lock *Lock, cache Cache, fetchers []Fetcher) ([]byte, error) {
	if f.Simulated {
		return simulated.Firmware(), nil
	}
	if f.File != "" {
		for _, local := range lock.Files {
			if local.Path != f.File {
				continue
			}
			path, err := cache.Get(ctx, Input{LocalFile, local.Path, local.SHA256, local.Size}, fetchers)
			if err != nil {
				return nil, err
			}
			return readFile(path, maxFirmwareBytes)
		}
		return nil, fmt.Errorf("the lock has no file %s: run vitrine lock", f.File)
	}
	p := lock.debian(f.Package)
	path, err := cache.Get(ctx, Input{DebianPackage, p.Path, p.SHA256, p.Size}, fetchers)
	if err != nil {
		return nil, err
	}
	deb, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer deb.Close()
	files, err := image.FilesFromDeb(deb, maxFirmwareBytes, f.Path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(p.Path), err)
	}
	return files[f.Path], nil
}
