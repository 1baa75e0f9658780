package measure

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Names of the registers of SEV-SNP evidence.
const (
	registerLaunchDigest = "launchDigest"
	registerGuestPolicy  = "guestPolicy"
	registerVMPL         = "vmpl"
	registerHostData     = "hostData"
	registerIDKeyDigest  = "idKeyDigest"
)

// maxVCPUs is KVM's own limit.
const maxVCPUs = 4096

// Mode is the generation of SEV.
type Mode string

const (
	// ModeSNP is SEV-SNP, with a launch digest of 48 bytes.
	ModeSNP Mode = "snp"
	// ModeSEVES is SEV-ES, with a launch digest of 32 bytes.
	ModeSEVES Mode = "sev-es"
	// ModeSEV is SEV, with a launch digest of 32 bytes.
	ModeSEV Mode = "sev"
)

// Launch parameters are in an attestation report beside the launch digest, and
// nothing in an image decides them: whoever starts the machine does.
type Launch struct {
	// GuestPolicy is the POLICY of the launch (SEV-SNP ABI 4.3).
	GuestPolicy uint64
	// VMPL is the privilege level at which the report is asked for: 0, or a
	// higher number behind an SVSM.
	VMPL uint32
	// HostData is HOST_DATA.
	HostData [32]byte
	// IDKeyDigest is the digest of the key that signed the ID block, zero
	// without one.
	IDKeyDigest [48]byte
}

// SNPInput is a launch: the files that a VMM is started with, and the shape of
// the machine.
type SNPInput struct {
	// Mode, VMM and Firmware have no default.
	Mode     Mode
	VMM      VMM
	Firmware *io.SectionReader
	// FirmwareHash replaces measuring the pages of the firmware: the launch
	// digest after them, as a vendor publishes it. The file is still needed for
	// its tables. SEV-SNP only.
	FirmwareHash *[48]byte

	// Kernel, Initrd and Cmdline are those of a direct kernel boot. A nil
	// reader or pointer means absent, which differs from empty: without a
	// kernel nothing is written into the firmware's page for hashes, with an
	// empty one its hash is. Each reader is read once, to its end.
	Kernel  io.Reader
	Initrd  io.Reader
	Cmdline *string

	// VCPUs is how many there are, 1 to 4096; not in mode "sev", which does not
	// measure them.
	VCPUs int
	// VCPUType is QEMU's name for the CPU model, see [VCPUSignature].
	// VCPUSignature takes its place for a model that has no name there. QEMU
	// only: the others do not tell the guest.
	VCPUType      string
	VCPUSignature uint32
	// GuestFeatures is SEV_FEATURES of the save area (AMD64 APM volume 2, table
	// B-4), bit 0 being SNP itself: 0x1 as QEMU sets it, 0x21 with debug-swap.
	// It is zero for the older modes.
	GuestFeatures uint64

	// SVSM is a Coconut SVSM that is launched in place of the firmware's own
	// start, just below firmware and variables; VarsSize is the length of the
	// variables' flash in bytes. QEMU and SEV-SNP only, without a kernel. The
	// save areas then hold guest features 1 whatever GuestFeatures says.
	SVSM     *io.SectionReader
	VarsSize int64

	// Launch becomes the registers "guestPolicy", "vmpl", "hostData" and
	// "idKeyDigest". Without it they are undetermined. SEV-SNP only.
	Launch *Launch
}

var errNoHashesPage = errors.New("this firmware has no page for the hashes of a kernel, so the kernel that is given beside it would not be measured, and the host could exchange it; use an OVMF built from OvmfPkg/AmdSev")

// SNP predicts the launch digest of an AMD SEV guest. The platform of the
// result is "sev-snp", or "sev-es" or "sev" for the older modes; the register
// is "launchDigest".
//
// A kernel beside a firmware that has no page for its hashes (Debian's OVMF has
// none) is an error, and so is an initrd or a command line without a kernel.
func SNP(in SNPInput) (*Result, error) {
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("predicting a launch digest: %w", err)
	}
	p := &snpPrediction{in: in}
	if err := p.run(); err != nil {
		return nil, err
	}
	return p.result(), nil
}

// check refuses combinations that have no meaning.
func (in *SNPInput) check() error {
	switch in.Mode {
	case ModeSNP, ModeSEVES, ModeSEV:
	default:
		return fmt.Errorf("the mode %q is not known; known are %q, %q and %q", in.Mode, ModeSNP, ModeSEVES, ModeSEV)
	}
	switch in.VMM {
	case VMMQEMU, VMMEC2, VMMGCE:
	default:
		return fmt.Errorf("the VMM %q is not known; known are %q, %q and %q", in.VMM, VMMQEMU, VMMEC2, VMMGCE)
	}
	switch snp := in.Mode == ModeSNP; {
	case in.Firmware == nil:
		return errors.New("no firmware was given")
	case in.Kernel == nil && (in.Initrd != nil || in.Cmdline != nil):
		return errors.New("an initrd or a command line was given without a kernel")
	case in.Mode != ModeSEV && (in.VCPUs < 1 || in.VCPUs > maxVCPUs):
		return fmt.Errorf("the number of vCPUs is %d, and 1 to %d are possible", in.VCPUs, maxVCPUs)
	case in.VCPUType != "" && in.VCPUSignature != 0:
		return errors.New("both a vCPU type and a vCPU signature were given; give one of them")
	case in.Mode != ModeSEV && in.VMM == VMMQEMU && in.VCPUType == "" && in.VCPUSignature == 0:
		return errors.New("neither a vCPU type nor a vCPU signature was given, and QEMU puts it into the save area")
	case snp && in.GuestFeatures&1 == 0:
		return fmt.Errorf("the guest features %#x lack bit 0, which is SEV-SNP itself", in.GuestFeatures)
	case !snp && in.GuestFeatures != 0:
		return fmt.Errorf("the guest features are %#x, and mode %q has none", in.GuestFeatures, in.Mode)
	case !snp && (in.FirmwareHash != nil || in.Launch != nil):
		return fmt.Errorf("a firmware hash or launch parameters were given, and mode %q has none", in.Mode)
	case in.SVSM != nil && (!snp || in.VMM != VMMQEMU || in.Kernel != nil || in.FirmwareHash != nil):
		return errors.New("an SVSM was given, which is possible with SEV-SNP on QEMU, without a kernel and without a firmware hash")
	case in.SVSM == nil && in.VarsSize != 0:
		return errors.New("a size of the variables was given without an SVSM")
	case in.VarsSize < 0 || in.VarsSize%pageSize != 0 || in.VarsSize > maxFirmwareSize:
		return fmt.Errorf("the size of the variables is %d bytes, which is not a number of whole pages up to %d", in.VarsSize, maxFirmwareSize)
	}
	return nil
}

// snpPrediction is a launch in progress.
type snpPrediction struct {
	in       SNPInput
	firmware *firmware
	svsm     *firmware
	hashes   []byte
	inputs   []Input

	digest []byte
	events []Event
}

func (p *snpPrediction) run() (err error) {
	if p.firmware, err = p.load("firmware", p.in.Firmware, fourGiB); err != nil {
		return err
	}
	if p.in.SVSM != nil {
		end := p.firmware.gpa - uint64(p.in.VarsSize)
		if p.svsm, err = p.load("svsm", p.in.SVSM, end); err != nil {
			return err
		}
	}
	if err := p.kernel(); err != nil {
		return fmt.Errorf("measuring the kernel: %w", err)
	}
	areas, err := p.saveAreas()
	if err != nil {
		return fmt.Errorf("making the save areas of the vCPUs: %w", err)
	}
	if p.in.Mode != ModeSNP {
		p.digest, p.events = flatLaunch(p.firmware, p.hashes, areas)
		return nil
	}
	return p.snp(areas)
}

func (p *snpPrediction) load(name string, file *io.SectionReader, end uint64) (*firmware, error) {
	input, _, err := hashInput(name, section(file))
	if err != nil {
		return nil, err
	}
	p.inputs = append(p.inputs, input)
	f, err := parseFirmware(file, end)
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", name, err)
	}
	return f, nil
}

// kernel hashes the kernel's files, after it made sure that somebody will
// compare them.
func (p *snpPrediction) kernel() error {
	if p.in.Kernel == nil {
		return nil
	}
	_, _, ok, err := p.firmware.hashesTable()
	if err != nil {
		return err
	}
	if ok && p.in.Mode == ModeSNP {
		ok = false
		for _, s := range p.firmware.sections {
			ok = ok || s.kind == sectionKernelHashes
		}
	}
	if !ok {
		return errNoHashesPage
	}
	hashes, inputs, err := hashKernel(p.in.Kernel, p.in.Initrd, p.in.Cmdline)
	p.hashes = hashes
	p.inputs = append(p.inputs, inputs...)
	return err
}

// saveAreas makes the save area of each vCPU.
func (p *snpPrediction) saveAreas() ([]*vmsaPage, error) {
	if p.in.Mode == ModeSEV {
		return nil, nil
	}
	signature := p.in.VCPUSignature
	if p.in.VCPUType != "" {
		var err error
		if signature, err = VCPUSignature(p.in.VCPUType); err != nil {
			return nil, err
		}
	}
	var first, others *vmsaPage
	switch {
	case p.svsm != nil:
		start, err := p.svsm.address(guidSVSMInfo, "SVSM's start")
		if err != nil {
			return nil, err
		}
		eip := p.svsm.gpa + uint64(start)
		if eip >= p.svsm.gpa+uint64(len(p.svsm.data)) {
			return nil, fmt.Errorf("the SVSM says it starts %#x bytes into an image of %#x bytes", start, len(p.svsm.data))
		}
		first = protectedMode(uint32(eip), signature)
		others = first
	default:
		first = realMode(p.in.VMM, resetVector, signature, p.in.GuestFeatures)
		if p.in.VCPUs == 1 {
			break
		}
		// Where the firmware lets the other vCPUs wait.
		eip, err := p.firmware.address(guidSEVESReset, "start of further vCPUs")
		if err != nil {
			return nil, err
		}
		others = realMode(p.in.VMM, eip, signature, p.in.GuestFeatures)
	}
	areas := []*vmsaPage{first}
	for len(areas) < p.in.VCPUs {
		areas = append(areas, others)
	}
	return areas, nil
}

// snp measures the launch page by page, in the order of the VMM.
func (p *snpPrediction) snp(areas []*vmsaPage) error {
	var l snpLaunch
	if p.in.FirmwareHash != nil {
		l.digest = *p.in.FirmwareHash
		l.event("firmware: the digest that was given for it")
	} else {
		l.image("firmware", p.firmware)
	}
	// Behind an SVSM the firmware's own metadata is the SVSM's business.
	source := p.firmware
	if p.svsm != nil {
		l.image("SVSM", p.svsm)
		source = p.svsm
	}
	if err := l.metadata(p.in.VMM, source, p.hashes); err != nil {
		return fmt.Errorf("measuring the memory that the firmware's metadata asks for: %w", err)
	}
	l.vcpus(areas)
	p.digest, p.events = l.digest[:], l.events
	return nil
}

func (p *snpPrediction) result() *Result {
	r := &Result{
		Platform:  string(p.in.Mode),
		Registers: map[string]string{registerLaunchDigest: hex.EncodeToString(p.digest)},
		Inputs:    p.inputs,
		Events:    p.events,
	}
	if p.in.Mode != ModeSNP {
		return r
	}
	r.Platform = PlatformSNP
	if p.in.Launch == nil {
		r.Undetermined = make(map[string]string)
		for _, name := range []string{registerGuestPolicy, registerVMPL, registerHostData, registerIDKeyDigest} {
			r.Undetermined[name] = "whoever starts the machine decides it, and it was not given"
		}
		return r
	}
	l := p.in.Launch
	r.Registers[registerGuestPolicy] = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, l.GuestPolicy))
	r.Registers[registerVMPL] = hex.EncodeToString(binary.BigEndian.AppendUint32(nil, l.VMPL))
	r.Registers[registerHostData] = hex.EncodeToString(l.HostData[:])
	r.Registers[registerIDKeyDigest] = hex.EncodeToString(l.IDKeyDigest[:])
	return r
}
