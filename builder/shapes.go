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
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
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

func (r *Recipe) parseShapes(v yamldoc.Value) {
	seen := map[string]bool{}
	for _, item := range v.List(maxShapes) {
		machine := parseMachine(item)
		key := machine.Platform + "/" + machine.Name
		if seen[key] {
			item.Errorf("shapes: %s stands there twice: give each shape of a platform a name of its own", key)
		}
		seen[key] = true
		r.Shapes = append(r.Shapes, machine)
	}
}

func parseMachine(v yamldoc.Value) (s Machine) {
	m := v.Mapping("name", "platform", "vars", "firmware", "vmm", "vcpus", "vcpuType", "guestFeatures", "guestPolicy")
	s.Name = m.Need("name", "give the shape a name").Text(statement.CheckName)
	s.Platform = m.Need("platform", "write tpm or sev-snp").Text(func(p string) error {
		if p != measure.PlatformTPM && p != measure.PlatformSNP {
			return fmt.Errorf("%q is not a platform that can be predicted: write tpm or sev-snp", p)
		}
		return nil
	})
	key, other := "vars", "firmware"
	if s.Platform == measure.PlatformSNP {
		key, other = other, key
	}
	if wrong := m.Optional(other); wrong.Present() {
		wrong.Errorf("%s: platform %s takes %s", other, s.Platform, key)
	}
	s.Firmware = parseFirmware(m.Need(key, "say where it is taken from"), s.Platform == measure.PlatformSNP)
	if s.Platform == measure.PlatformTPM {
		for _, k := range []string{"vmm", "vcpus", "vcpuType", "guestFeatures", "guestPolicy"} {
			if wrong := m.Optional(k); wrong.Present() {
				wrong.Errorf("%s: it decides no register of platform tpm that is predicted: remove it", k)
			}
		}
		return s
	}
	s.parseSNP(m)
	return s
}

func (s *Machine) parseSNP(m yamldoc.Mapping) {
	m.Need("vmm", "write qemu, ec2 or gce").Text(func(v string) error {
		var ok bool
		if s.VMM, ok = vmms[v]; !ok {
			return fmt.Errorf("%q is not a VMM: write qemu, ec2 or gce", v)
		}
		return nil
	})
	s.VCPUs = int(m.Need("vcpus", "write how many the machine has").Integer(1, 4096))
	s.VCPUType = m.Need("vcpuType", "write QEMU's name of the processor, such as EPYC-v4").Text(func(t string) error {
		_, err := measure.VCPUSignature(t)
		return err
	})
	s.GuestFeatures = 1
	if features := m.Optional("guestFeatures"); features.Present() {
		s.GuestFeatures = uint64(features.Integer(1, 1<<53-1))
	}
	m.Need("guestPolicy", `write 16 hex digits, such as "0000000000030000"`).Text(func(p string) (err error) {
		if len(p) != 16 {
			return fmt.Errorf("%q is not 16 hex digits: 0000000000030000 allows SMT and nothing else", p)
		}
		s.GuestPolicy, err = strconv.ParseUint(p, 16, 64)
		return err
	})
}

func parseFirmware(v yamldoc.Value, mayBeSimulated bool) FirmwareSource {
	m := v.Mapping("package", "path", "file", "simulated")
	s := FirmwareSource{
		Package:   m.Optional("package").Text(checkPackage),
		Path:      m.Optional("path").Text(checkLocalPath),
		File:      m.Optional("file").Text(checkLocalPath),
		Simulated: m.Optional("simulated").Boolean(),
	}
	if (s.Package == "") != (s.Path == "") {
		v.Errorf("a package goes with a path: name the file that is taken of it")
	}
	sources := 0
	for _, given := range []bool{s.Package != "", s.File != "", s.Simulated} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		v.Errorf("expected exactly one of package with path, file, and simulated: true")
	case s.Simulated && !mayBeSimulated:
		v.Errorf("simulated: there is no simulated firmware for this platform")
	}
	return s
}

// Measurements predicts what each shape of the recipe measures of the image,
// as a release states it. o says where inputs are cached; the recipe and lock
// in in are those that the image was built from.
func (o *Output) Measurements(ctx context.Context, in Inputs, cache Cache) ([]statement.Measurement, error) {
	recipe, lock, err := in.parse()
	if err != nil {
		return nil, err
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
			return durable.ReadFile(path, maxFirmwareBytes)
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
