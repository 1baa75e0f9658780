package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// TPMInput is a boot: what OVMF reads from disk and flash.
type TPMInput struct {
	// UKI is the unified kernel image that the firmware loads, with a section
	// .linux that holds an x86-64 Linux kernel and a systemd-stub 252.
	UKI *io.SectionReader
	// Disk is the whole disk, with blocks of 512 bytes, from whose EFI system
	// partition the UKI is loaded. Only its partition table is read. Without it
	// PCR 5 is undetermined.
	Disk *io.SectionReader
	// Vars is the OVMF VARS file as it is before the boot. Without it PCR 7 is
	// undetermined.
	Vars *io.SectionReader
}

// TPM predicts the PCRs (SHA-256 bank) of a machine that boots a UKI from a
// disk through OVMF with Secure Boot off, the only boot entry that is tried
// being the one that starts the UKI, without load options, option ROMs or files
// beside the UKI. A host that adds any of these changes a predicted register,
// which is the purpose. The firmware is one that knows Secure Boot, as all of
// Debian's builds do, including those not named for it.
//
// Registers are "pcr0" to "pcr15". Undetermined are always pcr0, pcr1 and
// pcr10; pcr5 and pcr7 where their input is missing; pcr9 where the kernel's
// own measurements are not known; pcr7 where Secure Boot is on. An input that
// is malformed is an error, never an undetermined register.
func TPM(in TPMInput) (*Result, error) {
	if in.UKI == nil {
		return nil, fmt.Errorf("predicting the PCRs of a boot: no UKI was given")
	}
	p := &tpmPrediction{undetermined: map[string]string{
		"pcr0":  "it holds the firmware as it is after it patched itself in memory, with the machine's RAM size and vCPU count, so it takes a reference boot of the same machine shape",
		"pcr1":  "it holds the boot entries with the device paths of the machine",
		"pcr10": "it holds the aggregate over PCR 0 to 9 that Linux IMA extends",
	}}
	if err := p.firmware(in); err != nil {
		return nil, err
	}
	if err := p.image(in.UKI); err != nil {
		return nil, fmt.Errorf("measuring the UKI: %w", err)
	}
	p.exitBootServices()
	return p.result(), nil
}

// tpmPrediction is a boot in progress.
type tpmPrediction struct {
	bank         pcrBank
	undetermined map[string]string
	inputs       []Input
}

// firmware makes the measurements that come before the UKI is loaded.
func (p *tpmPrediction) firmware(in TPMInput) error {
	if in.Vars == nil {
		p.undetermined["pcr7"] = "the file of UEFI variables was not given"
	} else if err := p.secureBootVariables(in.Vars); err != nil {
		return fmt.Errorf("measuring the UEFI variables: %w", err)
	}
	// Ready to boot: the action is measured first, then PCR 0 to 6 are closed.
	p.bank.extendData(4, []byte("Calling EFI Application from Boot Option"), "EV_EFI_ACTION: Calling EFI Application from Boot Option")
	for pcr := 2; pcr <= 6; pcr++ {
		p.bank.extend(pcr, separator, "EV_SEPARATOR")
	}
	if in.Disk == nil {
		p.undetermined["pcr5"] = "the disk was not given"
		return nil
	}
	gpt, err := gptEvent(in.Disk)
	if err != nil {
		return fmt.Errorf("measuring the disk's partition table: %w", err)
	}
	if gpt != nil {
		sum := sha256.Sum256(gpt)
		p.inputs = append(p.inputs, Input{Name: "gpt", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(gpt))})
		p.bank.extend(5, sum, "EV_EFI_GPT_EVENT: partition table of the boot disk")
	}
	return nil
}

// secureBootVariables measures PCR 7 (EDK2, SecurityPkg/Tcg/Tcg2Dxe,
// MeasureAllSecureVariables).
func (p *tpmPrediction) secureBootVariables(file *io.SectionReader) error {
	input, _, err := hashInput("vars", section(file))
	if err != nil {
		return err
	}
	p.inputs = append(p.inputs, input)
	variables, err := parseVars(file)
	if err != nil {
		return err
	}
	named := func(vendor guid, name string) variableName {
		return variableName{vendor, string(utf16le(name))}
	}
	platformKey := named(guidGlobalVariable, "PK")
	if len(variables[platformKey]) > 0 {
		p.undetermined["pcr7"] = "a platform key is enrolled, and which authorities Secure Boot then measures is not known from the files"
		return nil
	}
	secureBoot := named(guidGlobalVariable, "SecureBoot")
	// Volatile, so not in the file: without a platform key the firmware is in
	// setup mode, and sets it to 0.
	variables[secureBoot] = []byte{0}
	for _, v := range []struct {
		variableName
		text string
	}{
		{secureBoot, "SecureBoot"},
		{platformKey, "PK"},
		{named(guidGlobalVariable, "KEK"), "KEK"},
		{named(guidImageSecurity, "db"), "db"},
		{named(guidImageSecurity, "dbx"), "dbx"},
	} {
		p.bank.extendData(7, variableData(v.variableName, variables[v.variableName]), "EV_EFI_VARIABLE_DRIVER_CONFIG: "+v.text)
	}
	for _, text := range []string{"dbt", "dbr"} {
		// Measured only where they exist.
		if v := named(guidImageSecurity, text); len(variables[v]) > 0 {
			p.bank.extendData(7, variableData(v, variables[v]), "EV_EFI_VARIABLE_DRIVER_CONFIG: "+text)
		}
	}
	p.bank.extend(7, separator, "EV_SEPARATOR")
	return nil
}

// image makes the measurements of loading and running the UKI.
func (p *tpmPrediction) image(file *io.SectionReader) error {
	u, err := parseUKI(file)
	if err != nil {
		return err
	}
	input, _, err := hashInput("uki", section(file))
	if err != nil {
		return err
	}
	p.inputs = append(p.inputs, input)
	image, err := authenticode(u.pe)
	if err != nil {
		return err
	}
	p.bank.extend(4, image, "EV_EFI_BOOT_SERVICES_APPLICATION: the UKI")

	// The stub measures its sections, then hands the kernel to the firmware's
	// LoadImage, which measures it as an application of its own.
	content := make(map[string][32]byte)
	for _, name := range stubMeasured {
		s := u.sections[name]
		if s == nil {
			continue
		}
		input, sum, err := hashInput(name, section(s))
		if err != nil {
			return err
		}
		content[name] = sum
		p.bank.extendData(11, append([]byte(name), 0), "EV_IPL: name of section "+name)
		p.bank.extend(11, sum, fmt.Sprintf("EV_IPL: content of section %s, %d bytes", name, input.Size))
	}
	linux, err := parsePE(u.sections[".linux"])
	if err != nil {
		return fmt.Errorf("reading the kernel in section .linux: %w", err)
	}
	kernel, err := authenticode(linux)
	if err != nil {
		return err
	}
	p.bank.extend(4, kernel, "EV_EFI_BOOT_SERVICES_APPLICATION: the kernel in section .linux")
	return p.kernel(u, content)
}

// kernel makes the measurements of Linux's own EFI stub into PCR 9: its load
// options and its initrd (Linux, drivers/firmware/efi/libstub/efi-stub-helper.c).
func (p *tpmPrediction) kernel(u *uki, content map[string][32]byte) error {
	cmdline, err := u.small(".cmdline")
	if err != nil {
		return err
	}
	major, minor, ok := kernelVersion(u.sections[".linux"])
	switch {
	case !ok:
		p.undetermined["pcr9"] = "the section .linux holds no version of a Linux kernel, so what it measures is not known"
	case major < 6 || major == 6 && minor < 1:
		p.undetermined["pcr9"] = fmt.Sprintf("Linux %d.%d does not measure all that later versions do; 6.1 and newer are known", major, minor)
	case cmdline == nil:
		p.undetermined["pcr9"] = "there is no section .cmdline, so the command line is whatever the boot entry passes"
	case u.sections[".pcrsig"] != nil || u.sections[".pcrpkey"] != nil:
		p.undetermined["pcr9"] = "there is a section .pcrsig or .pcrpkey, which the stub packs into the initrd that the kernel measures"
	}
	if p.undetermined["pcr9"] != "" {
		return nil
	}
	options, err := loadOptions(cmdline)
	if err != nil {
		return err
	}
	p.bank.extendData(9, options, "EV_EVENT_TAG: LOADED_IMAGE::LoadOptions, the command line")
	if initrd, there := content[".initrd"]; there {
		p.bank.extend(9, initrd, "EV_EVENT_TAG: Linux initrd")
	}
	return nil
}

// exitBootServices makes the measurements of handing the machine over.
func (p *tpmPrediction) exitBootServices() {
	for _, action := range []string{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"} {
		p.bank.extendData(5, []byte(action), "EV_EFI_ACTION: "+action)
	}
}

func (p *tpmPrediction) result() *Result {
	r := &Result{
		Platform:     PlatformTPM,
		Registers:    make(map[string]string),
		Undetermined: p.undetermined,
		Inputs:       p.inputs,
		Events:       []Event{},
	}
	for pcr, value := range p.bank.values {
		if name := pcrName(pcr); p.undetermined[name] == "" {
			r.Registers[name] = hex.EncodeToString(value[:])
		}
	}
	// Half the events of a register would only mislead.
	for _, e := range p.bank.events {
		if p.undetermined[e.Register] == "" {
			r.Events = append(r.Events, e)
		}
	}
	return r
}
