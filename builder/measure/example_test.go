package measure_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/vitrine-dev/vitrine/builder/measure"
	"github.com/vitrine-dev/vitrine/builder/measure/simulated"
)

// A launch is predicted from its files and the shape of the machine. The
// firmware here is a simulated one; a real one is an OVMF built from
// OvmfPkg/AmdSev.
func ExampleSNP() {
	firmware := simulated.Firmware()
	cmdline := "console=ttyS0"
	result, err := measure.SNP(measure.SNPInput{
		Mode:          measure.ModeSNP,
		VMM:           measure.VMMQEMU,
		Firmware:      io.NewSectionReader(bytes.NewReader(firmware), 0, int64(len(firmware))),
		Kernel:        strings.NewReader("a kernel"),
		Initrd:        strings.NewReader("an initrd"),
		Cmdline:       &cmdline,
		VCPUs:         2,
		VCPUType:      "EPYC-Milan",
		GuestFeatures: 0x1,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("launchDigest", result.Registers["launchDigest"])
	for _, event := range result.Events {
		fmt.Println(event.Digest[:8], event.Description)
	}
	fmt.Println("hostData:", result.Undetermined["hostData"])
	// Output:
	// launchDigest 9a8991a2e1ca4e07e9e97c9bc5430c4eab3f1b514403af6faa5e01ac5f232a6775124cd0a0599679aaaaec48c661dde7
	// 7c835dae firmware: 16 pages from address 0xffff0000
	// 8f797fb4 memory: 9 pages from address 0x800000
	// 5a7a4622 memory: 3 pages from address 0x80a000
	// 60321de2 secrets: 1 pages from address 0x80d000
	// 1859e7e3 CPUID: 1 pages from address 0x80e000
	// 861d710d SVSM calling area: 1 pages from address 0x80f000
	// 5124ce62 kernel hashes: one page at address 0x810000 with the hashes of kernel, initrd and command line
	// 4b9ff6d3 memory: 15 pages from address 0x811000
	// c909b944 save area of vCPU 0
	// 9a8991a2 save area of vCPU 1
	// hostData: whoever starts the machine decides it, and it was not given
}

// What a signature that a host reports stands for is checked by its number.
func ExampleVCPUSignature() {
	signature, err := measure.VCPUSignature("EPYC-Genoa-v2")
	fmt.Printf("%#x %v\n", signature, err)
	// Output: 0xa10f10 <nil>
}
