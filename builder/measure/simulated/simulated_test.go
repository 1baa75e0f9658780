package simulated_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/builder/measure/simulated"
)

// The image is part of what simulated evidence measures: changing it changes
// every digest that was published over it.
const (
	goldenFirmware = "81cfb1f13d2b0291ebbe01f472698e06ed30894aecb90bec4d6e3bdd4bea3bbf"
	goldenKernel   = "8badb96f5f626a3c8f32b04d1ca894ed948e40e1cdf5b948a3596a72cd40ac00ea7db8befe5735eb8c596c30b4d328da"
	goldenNoKernel = "6412472ceffe45a54c49a16accd6d7cce5549840ac2469825290723e8cf55f1ab5baf9f9f03d04d656ffab67f9139b6d"
)

func input() measure.SNPInput {
	b := simulated.Firmware()
	return measure.SNPInput{
		Mode: measure.ModeSNP, VMM: measure.VMMQEMU,
		Firmware: io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))),
		VCPUs:    2, VCPUType: "EPYC-v4", GuestFeatures: 1,
	}
}

func digest(t *testing.T, in measure.SNPInput) string {
	t.Helper()
	r, err := measure.SNP(in)
	if err != nil {
		t.Fatal(err)
	}
	return r.Registers["launchDigest"]
}

func withKernel(kernel, initrd, cmdline string) measure.SNPInput {
	in := input()
	in.Kernel, in.Initrd, in.Cmdline = strings.NewReader(kernel), strings.NewReader(initrd), &cmdline
	return in
}

func TestGolden(t *testing.T) {
	if sum := sha256.Sum256(simulated.Firmware()); hex.EncodeToString(sum[:]) != goldenFirmware {
		t.Errorf("the image's SHA-256 is %x, want %s", sum, goldenFirmware)
	}
	if got := digest(t, withKernel("kernel", "initrd", "quiet")); got != goldenKernel {
		t.Errorf("the launch digest with a kernel is %s, want %s", got, goldenKernel)
	}
	if got := digest(t, input()); got != goldenNoKernel {
		t.Errorf("the launch digest without a kernel is %s, want %s", got, goldenNoKernel)
	}
}

func TestEachInputIsMeasured(t *testing.T) {
	seen := make(map[string]string)
	for name, in := range map[string]measure.SNPInput{
		"all":           withKernel("kernel", "initrd", "quiet"),
		"other kernel":  withKernel("kernel2", "initrd", "quiet"),
		"other initrd":  withKernel("kernel", "initrd2", "quiet"),
		"other cmdline": withKernel("kernel", "initrd", "quiet init=/bin/sh"),
		"none":          input(),
	} {
		got := digest(t, in)
		if twin, twice := seen[got]; twice {
			t.Errorf("%q and %q have the same launch digest", name, twin)
		}
		seen[got] = name
	}
}

func TestFirmwareIsFreshEachTime(t *testing.T) {
	first := simulated.Firmware()
	first[0] ^= 1
	if !bytes.HasPrefix(simulated.Firmware(), []byte(simulated.Notice)) {
		t.Error("changing a returned image changes the next one")
	}
}
