// Package simulated is an attester without hardware: it measures an image's
// artefacts itself, as an SEV-SNP secure processor measures a launch, and signs
// a report of the real structure under a throw-away root.
//
// It is for trying things out where no such hardware is. What it says proves
// nothing: whoever runs it holds the key that signs. A verifier refuses it
// unless its policy names the throw-away root, and then says that nothing is
// isolated.
package simulated

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/node"
	"github.com/vitrine-dev/vitrine/node/evidence"
	hardware "github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// GuestPolicy is the POLICY that the simulated launch has (SEV-SNP ABI 56860,
// §4.3): ABI 0.0, SMT allowed, bit 17 reserved as one, debugging not allowed.
const GuestPolicy = 0x30000

// GuestFeatures is SEV_FEATURES of the simulated launch: SEV-SNP alone.
const GuestFeatures = 0x1

// maxCommandLineBytes is above what Linux reads of a command line.
const maxCommandLineBytes = 64 << 10

// Machine is a launch by direct kernel boot on QEMU: files by their paths, and
// the machine's shape.
type Machine struct {
	// Firmware is an OVMF-shaped firmware with a page for hashes.
	Firmware string
	// Kernel, Initrd and Cmdline are files; the last holds the command line
	// and nothing else, no line break either. Without Kernel all are empty.
	Kernel, Initrd, Cmdline string
	// VCPUs and VCPUType are the shape, the type by QEMU's name, such as
	// "EPYC-Milan".
	VCPUs    int
	VCPUType string
}

// Attester is a machine that was measured when it was opened.
type Attester struct {
	chip         *hardware.AMD
	launchDigest [48]byte
	registers    map[string]string
	endorsements []evidence.Endorsement
}

// Open measures the machine's files as a secure processor would, and returns
// the attester that reports what came out. Nothing tells it what should.
func Open(chip *hardware.AMD, machine Machine) (*Attester, error) {
	launchDigest, err := machine.measure()
	if err != nil {
		return nil, err
	}
	a := &Attester{chip: chip, launchDigest: launchDigest}
	for kind, data := range chip.Endorsements() {
		a.endorsements = append(a.endorsements, evidence.Endorsement{Type: string(kind), Data: data})
	}
	slices.SortFunc(a.endorsements, func(x, y evidence.Endorsement) int {
		return slices.Compare([]byte(x.Type), []byte(y.Type))
	})
	reported, err := a.report([64]byte{})
	if err != nil {
		return nil, err
	}
	if a.registers, err = node.SNPRegisters(reported); err != nil {
		return nil, err
	}
	return a, nil
}

// Platform returns "sev-snp": the structures are that platform's.
func (a *Attester) Platform() string { return node.PlatformSNP }

// Registers returns what the simulated launch measured.
func (a *Attester) Registers(context.Context) (map[string]string, error) {
	return a.registers, nil
}

// Attest signs a report over h.
func (a *Attester) Attest(_ context.Context, h [64]byte) (*node.Attestation, error) {
	reported, err := a.report(h)
	if err != nil {
		return nil, err
	}
	return &node.Attestation{Report: reported, Endorsements: a.endorsements}, nil
}

func (a *Attester) report(h [64]byte) ([]byte, error) {
	return a.chip.Report(hardware.Report{
		GuestPolicy:  GuestPolicy,
		ReportData:   h,
		LaunchDigest: a.launchDigest,
	})
}

// measure returns the launch digest of the machine's files.
func (m Machine) measure() (launchDigest [48]byte, err error) {
	if m.Firmware == "" {
		return launchDigest, errors.New("a simulated machine needs a firmware file")
	}
	in := measure.SNPInput{
		Mode:          measure.ModeSNP,
		VMM:           measure.VMMQEMU,
		VCPUs:         m.VCPUs,
		VCPUType:      m.VCPUType,
		GuestFeatures: GuestFeatures,
	}
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			_ = f.Close()
		}
	}()
	open := func(what, path string) (*os.File, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("opening the %s to measure it: %w", what, err)
		}
		opened = append(opened, f)
		return f, nil
	}
	firmware, err := open("firmware", m.Firmware)
	if err != nil {
		return launchDigest, err
	}
	info, err := firmware.Stat()
	if err != nil {
		return launchDigest, fmt.Errorf("opening the firmware to measure it: %w", err)
	}
	in.Firmware = io.NewSectionReader(firmware, 0, info.Size())
	if m.Kernel != "" {
		if in.Kernel, err = open("kernel", m.Kernel); err != nil {
			return launchDigest, err
		}
	}
	if m.Initrd != "" {
		if in.Initrd, err = open("initrd", m.Initrd); err != nil {
			return launchDigest, err
		}
	}
	if m.Cmdline != "" {
		f, err := open("command line", m.Cmdline)
		if err != nil {
			return launchDigest, err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxCommandLineBytes+1))
		if err != nil {
			return launchDigest, fmt.Errorf("reading the command line: %w", err)
		}
		if len(text) > maxCommandLineBytes {
			return launchDigest, fmt.Errorf("the command line in %s has more than %d bytes", m.Cmdline, maxCommandLineBytes)
		}
		cmdline := string(text)
		in.Cmdline = &cmdline
	}
	measured, err := measure.SNP(in)
	if err != nil {
		return launchDigest, err
	}
	digest, err := hex.DecodeString(measured.Registers["launchDigest"])
	if err != nil || len(digest) != len(launchDigest) {
		return launchDigest, fmt.Errorf("measuring the machine gave the launch digest %q", measured.Registers["launchDigest"])
	}
	return [48]byte(digest), nil
}
