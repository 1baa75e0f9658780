package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/builder/measure"
)

func newMeasure() *cobra.Command {
	return noun("measure", "Predict the registers that hardware will report", newMeasureImage(), newMeasureSNP(), newMeasureTPM())
}

func newMeasureImage() *cobra.Command {
	c := &cobra.Command{
		Use:   "image IMAGE",
		Short: "Predict every shape of a recipe for a built image",
		Long: `Predict, from the artefacts in the folder IMAGE, what each machine shape of the
recipe measures, as the release statement will say.`,
		Example: `  vitrine measure image image --recipe testdata/recipes/hello-inference`,
		Args:    arguments,
	}
	recipe := addRecipeFlags(c)
	flags := addBuildFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		in, err := e.inputs(recipe)
		if err != nil {
			return err
		}
		image, err := builder.OpenOutput(args[0])
		if err != nil {
			return err
		}
		all, err := image.Measurements(c.Context(), in, e.cache)
		if err != nil {
			return recipe.named(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"measurements": all})
		}
		for _, m := range all {
			say(c, false, "%s, shape %s", m.Platform, m.Shape)
			for _, name := range sortedRegisters(m.Registers) {
				r := m.Registers[name]
				if r.Any != "" {
					say(c, false, "  %-13s any: %s", name, r.Any)
				}
				for _, value := range r.OneOf {
					say(c, false, "  %-13s %s", name, value)
				}
			}
		}
		return nil
	}
	return c
}

// sortedRegisters orders register names as a person counts: pcr2 before pcr11.
func sortedRegisters[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		pa, na := splitNumber(a)
		pb, nb := splitNumber(b)
		if c := strings.Compare(pa, pb); c != 0 {
			return c
		}
		return na - nb
	})
	return names
}

func splitNumber(s string) (prefix string, n int) {
	i := len(strings.TrimRight(s, "0123456789"))
	n, _ = strconv.Atoi(s[i:])
	return s[:i], n
}

func newMeasureSNP() *cobra.Command {
	c := &cobra.Command{
		Use:   "sev-snp",
		Short: "Predict the launch digest of an AMD SEV-SNP guest",
		Long: `Predict the launch digest of a guest started by direct kernel boot. A flag that is
not given means absent; an empty file, or --cmdline '', means there and empty.`,
		Example: `  vitrine measure sev-snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.cpio \
    --cmdline "console=ttyS0" --vcpus 4 --vcpu-type EPYC-v4`,
		Args: arguments,
	}
	firmware := c.Flags().String("firmware", "", "OVMF `FILE`")
	firmwareHash := c.Flags().String("firmware-hash", "", "launch digest after the firmware's pages, `HEX`, in place of measuring them")
	kernel := c.Flags().String("kernel", "", "kernel `FILE`")
	initrd := c.Flags().String("initrd", "", "initrd `FILE`")
	cmdline := c.Flags().String("cmdline", "", "kernel command `LINE`")
	vcpus := c.Flags().Int("vcpus", 1, "`NUMBER` of vCPUs")
	vcpuType := c.Flags().String("vcpu-type", "", "QEMU's `NAME` of the CPU model")
	vcpuSig := c.Flags().String("vcpu-sig", "", "CPUID signature, `NUMBER`, in place of a model")
	vmm := c.Flags().String("vmm", "qemu", "`VMM`: qemu, ec2 or gce")
	features := c.Flags().String("guest-features", "0x1", "SEV_FEATURES, `NUMBER`")
	mode := c.Flags().String("mode", "snp", "`MODE`: snp, sev-es or sev")
	svsm := c.Flags().String("svsm", "", "Coconut SVSM `FILE`")
	varsSize := c.Flags().Int64("vars-size", 0, "`BYTES` of the variables' flash, with --svsm")
	asJSON := jsonFlag(c)
	require(c, "firmware")
	oneOf(c, "vmm", "qemu", "ec2", "gce")
	oneOf(c, "mode", "snp", "sev-es", "sev")
	c.RunE = func(c *cobra.Command, _ []string) error {
		files := &openFiles{}
		defer files.close()
		given := c.Flags().Changed
		in := measure.SNPInput{Mode: measure.Mode(*mode), VMM: measure.VMM(*vmm), Firmware: files.section(*firmware), VCPUs: *vcpus, VCPUType: *vcpuType, VarsSize: *varsSize}
		if given("kernel") {
			in.Kernel = files.section(*kernel)
		}
		if given("initrd") {
			in.Initrd = files.section(*initrd)
		}
		if given("svsm") {
			in.SVSM = files.section(*svsm)
		}
		if files.err != nil {
			return files.err
		}
		if given("cmdline") {
			in.Cmdline = cmdline
		}
		if *firmwareHash != "" {
			b, err := hex.DecodeString(*firmwareHash)
			if err != nil || len(b) != 48 {
				return errors.New("--firmware-hash takes 96 hex digits")
			}
			in.FirmwareHash = (*[48]byte)(b)
		}
		var err error
		if in.GuestFeatures, err = strconv.ParseUint(*features, 0, 64); err != nil {
			return fmt.Errorf("--guest-features %s is not a number such as 0x1", *features)
		}
		if *vcpuSig != "" {
			sig, err := strconv.ParseUint(*vcpuSig, 0, 32)
			if err != nil {
				return fmt.Errorf("--vcpu-sig %s is not a number such as 0x800f12", *vcpuSig)
			}
			in.VCPUSignature = uint32(sig)
		}
		if in.Mode != measure.ModeSNP && !given("guest-features") {
			in.GuestFeatures = 0
		}
		return printPrediction(c, *asJSON, func() (*measure.Result, error) { return measure.SNP(in) })
	}
	return c
}

func newMeasureTPM() *cobra.Command {
	c := &cobra.Command{
		Use:     "tpm",
		Short:   "Predict the PCRs of a UKI booted through OVMF",
		Example: `  vitrine measure tpm --uki image/uki.efi --disk image/disk.img --vars /usr/share/OVMF/OVMF_VARS_4M.fd`,
		Args:    arguments,
	}
	uki := c.Flags().String("uki", "", "unified kernel image `FILE`")
	disk := c.Flags().String("disk", "", "disk image `FILE` that holds it; decides PCR 5")
	vars := c.Flags().String("vars", "", "OVMF variables `FILE`; decides PCR 7")
	asJSON := jsonFlag(c)
	require(c, "uki")
	c.RunE = func(c *cobra.Command, _ []string) error {
		files := &openFiles{}
		defer files.close()
		in := measure.TPMInput{UKI: files.section(*uki)}
		if *disk != "" {
			in.Disk = files.section(*disk)
		}
		if *vars != "" {
			in.Vars = files.section(*vars)
		}
		if files.err != nil {
			return files.err
		}
		return printPrediction(c, *asJSON, func() (*measure.Result, error) { return measure.TPM(in) })
	}
	return c
}

// openFiles opens files for the length of a command, and keeps the first error.
type openFiles struct {
	open []*os.File
	err  error
}

func (o *openFiles) section(path string) *io.SectionReader {
	f, err := os.Open(path)
	err = noSuch(err)
	if err == nil {
		o.open = append(o.open, f)
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a folder; name a file", path)
		}
		if err == nil {
			return io.NewSectionReader(f, 0, info.Size())
		}
	}
	if o.err == nil {
		o.err = err
	}
	return nil
}

func (o *openFiles) close() {
	for _, f := range o.open {
		f.Close()
	}
}

func printPrediction(c *cobra.Command, asJSON bool, predict func() (*measure.Result, error)) error {
	r, err := predict()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	for _, name := range sortedRegisters(r.Registers) {
		say(c, false, "%s  %s", name, r.Registers[name])
	}
	for _, name := range sortedRegisters(r.Undetermined) {
		fmt.Fprintf(c.ErrOrStderr(), "%s is not determined: %s\n", name, r.Undetermined[name])
	}
	return nil
}
