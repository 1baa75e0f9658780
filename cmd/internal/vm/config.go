package vm

import "io"

// FirmwareVars holds the UEFI variables that every machine starts from. PCR
// 7 is predicted from it.
const FirmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"

// Packages are what `apt-get install --no-install-recommends` has to be given
// for Available to say yes.
var Packages = []string{"qemu-system-x86", "ovmf", "swtpm"}

// Config is one boot of one machine.
type Config struct {
	Disk     string // the image's disk.img; it is not written to
	StateDir string // the machine; made if need be, see the package comment

	MemoryMB int // 0: 1024
	CPUs     int // 0: 1

	// Forward maps a TCP port of the guest to one of the host's loopback; host
	// port 0 means any free one, see VM.Addr. The guest can open no connection.
	Forward map[int]int

	// Console gets what the guest writes to its serial port, besides
	// StateDir/console.log; nil for nobody.
	Console io.Writer

	// LoadOptions, if not empty, boots by an entry of the firmware's boot menu
	// with these options instead of the default path, as a hostile host may:
	// systemd-stub takes them for the kernel command line.
	LoadOptions string
}
