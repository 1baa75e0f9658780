package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// Spec says everything that ends up in an image. Nothing else does.
type Spec struct {
	// Epoch is the one timestamp of the image: of every file, file system and
	// directory entry. Whole seconds, from 1980 (FAT has no earlier date) to 2100.
	Epoch time.Time

	// Kernel is a Linux bzImage. None: no uki.efi, no EFI system partition and
	// no vmlinuz, which is an image for simulated nodes only.
	Kernel Content
	// KernelRelease is what `uname -r` says; it becomes the .uname section of
	// the UKI. It may be empty.
	KernelRelease string
	// Modules are loaded by init in this order.
	Modules []Module
	// Stub is systemd's linuxx64.efi.stub. None: no uki.efi.
	Stub Content
	// OSRelease is the .osrel section of the UKI, in the format of
	// os-release(5). Empty: a fixed text that says "Vitrine".
	OSRelease string
	// CommandLine is the kernel command line: printable ASCII.
	CommandLine string

	// Init is a static executable; it becomes /init of the initrd.
	Init Content
	// Network is the guest's address; nil for loopback only.
	Network *guestconfig.Network
	// Services are started by init from the root volume.
	Services []guestconfig.Service

	// Volumes begin with the one named "root", mounted at "/".
	Volumes []Volume

	// Disk asks for disk.img.
	Disk bool
}

// Module is one kernel module, not compressed.
type Module struct {
	Name    string // file name, "dm-verity.ko"
	Content Content
}

// Volume is one file system, read-only and protected by dm-verity.
type Volume struct {
	Name    string // see guestconfig.CheckVolumeName
	Mount   string // absolute; "/" for "root"
	Entries []Entry
}

// Entry is one file, directory, symbolic link or device node.
type Entry struct {
	Path string // slash-separated, relative, clean: "usr/bin/node"
	// Mode holds the type and permission bits, set-user-ID, set-group-ID and
	// sticky bits. Regular files, directories, symbolic links and devices only.
	Mode     fs.FileMode
	UID, GID uint32
	Content  Content // regular files
	Target   string  // symbolic links
	// Major and Minor number a device.
	Major, Minor uint32
}

// RegularFile is an Entry of root:root.
func RegularFile(name string, perm fs.FileMode, c Content) Entry {
	return Entry{Path: name, Mode: perm & fs.ModePerm, Content: c}
}

// Directory is an Entry of root:root.
func Directory(name string, perm fs.FileMode) Entry {
	return Entry{Path: name, Mode: fs.ModeDir | perm&(fs.ModePerm|fs.ModeSticky)}
}

// Symlink is an Entry of root:root.
func Symlink(name, target string) Entry {
	return Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Target: target}
}

const (
	maxEntries     = 4 << 20
	maxPathBytes   = 4095
	maxCommandLine = 2047 // COMMAND_LINE_SIZE of Linux on x86 is 2048 with the NUL
	maxModuleBytes = 64 << 20
	maxKernelBytes = 512 << 20
	maxStubBytes   = 16 << 20
)

var (
	earliest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// check refuses a Spec that cannot become an image, before anything is written.
func (s *Spec) check() error {
	if s.Epoch.Before(earliest) || !s.Epoch.Before(latest) || s.Epoch.Nanosecond() != 0 {
		return fmt.Errorf("epoch %s is not a whole second between 1980 and 2100: set it from the source's commit time", s.Epoch.UTC().Format(time.RFC3339Nano))
	}
	if s.Kernel.None() && !s.Stub.None() {
		return errors.New("an EFI stub without a kernel: add the kernel or leave the stub out")
	}
	if s.Kernel.Size() > maxKernelBytes || s.Stub.Size() > maxStubBytes {
		return fmt.Errorf("kernel of %d bytes or EFI stub of %d bytes is too large (at most %d and %d)", s.Kernel.Size(), s.Stub.Size(), maxKernelBytes, maxStubBytes)
	}
	if err := checkCommandLine(s.CommandLine); err != nil {
		return err
	}
	if strings.ContainsRune(s.OSRelease, 0) || len(s.OSRelease) > 4096 {
		return errors.New("the os-release text holds a NUL or more than 4096 bytes")
	}
	if strings.ContainsAny(s.KernelRelease, "\x00/ \n") || len(s.KernelRelease) > 64 {
		return fmt.Errorf("kernel release %q is not what uname -r prints", s.KernelRelease)
	}
	if s.Init.None() || s.Init.Size() == 0 {
		return errors.New("there is no init: build cmd/vitrine-init and add it")
	}
	for _, m := range s.Modules {
		if m.Content.None() || m.Content.Size() > maxModuleBytes {
			return fmt.Errorf("kernel module %q has no content or more than %d bytes", m.Name, maxModuleBytes)
		}
	}
	if len(s.Volumes) == 0 || s.Volumes[0].Name != guestconfig.RootVolume {
		return fmt.Errorf("the first volume has to be %q", guestconfig.RootVolume)
	}
	seen := map[string]bool{}
	for _, v := range s.Volumes {
		if err := guestconfig.CheckVolumeName(v.Name); err != nil {
			return err
		}
		if err := guestconfig.CheckMount(v.Name, v.Mount); err != nil {
			return err
		}
		if seen[v.Name] {
			return fmt.Errorf("volume %q is listed twice", v.Name)
		}
		seen[v.Name] = true
		for _, other := range s.Volumes[1:] {
			if strings.HasPrefix(v.Mount, other.Mount+"/") {
				return fmt.Errorf("volume %q would be mounted inside volume %q, which has no place for it: mount it elsewhere", v.Name, other.Name)
			}
		}
	}
	return nil
}

// refusedParameters are those of Linux that make an image one that is measured
// faithfully and protects nothing, and what each does
// (Documentation/admin-guide/kernel-parameters.txt).
var refusedParameters = map[string]string{
	"init":                 "starts something else than the image's init",
	"rdinit":               "starts something else than the image's init",
	"initrd":               "starts something else than the image's init",
	"initrdmem":            "starts something else than the image's init",
	"noinitrd":             "starts something else than the image's init",
	"bootconfig":           "takes further parameters from behind the initrd",
	"dm_mod.create":        "sets up devices before init does",
	"ip":                   "configures the network before init does, by what the host answers",
	"nfsroot":              "takes files from the network",
	"kgdboc":               "lets the host debug the kernel over the serial line",
	"kgdboc_earlycon":      "lets the host debug the kernel over the serial line",
	"ekgdboc":              "lets the host debug the kernel over the serial line",
	"kgdbdbgp":             "lets the host debug the kernel",
	"kgdbwait":             "lets the host debug the kernel",
	"kgdbcon":              "lets the host debug the kernel",
	"sysrq_always_enabled": "lets the host command the kernel over the serial line",
	"ohci1394_dma":         "lets the host read the memory",
	"acpi_rsdp":            "takes ACPI tables from a place that nobody measured",
}

// checkCommandLine refuses what has another meaning to Linux than to a reader,
// and refusedParameters.
func checkCommandLine(s string) error {
	if len(s) > maxCommandLine {
		return fmt.Errorf("the kernel command line has %d bytes, more than %d", len(s), maxCommandLine)
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("the kernel command line holds byte %#02x at offset %d: only printable ASCII is measured alike everywhere", s[i], i)
		}
	}
	if strings.TrimSpace(s) != s {
		return errors.New("the kernel command line begins or ends with a space: remove it")
	}
	// Linux takes quotes around a parameter, or a part of it, off.
	if strings.ContainsRune(s, '"') {
		return errors.New("the kernel command line holds a quote: write each parameter without")
	}
	for _, p := range strings.Fields(s) {
		name, _, _ := strings.Cut(p, "=")
		// Linux takes "-" and "_" in a name for the same.
		if why := refusedParameters[strings.ReplaceAll(name, "-", "_")]; why != "" {
			return fmt.Errorf("the kernel command line holds %q, which %s: remove it", p, why)
		}
	}
	return nil
}

// tree gives entries sorted by path, with every missing parent directory added
// as root:root 0755, and without the root itself unless it is listed.
func tree(entries []Entry) ([]Entry, error) {
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%d entries, more than %d", len(entries), maxEntries)
	}
	byPath := make(map[string]Entry, len(entries))
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		if _, ok := byPath[e.Path]; ok {
			return nil, fmt.Errorf("%s is listed twice", e.Path)
		}
		byPath[e.Path] = e
	}
	for _, e := range entries {
		for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
			parent, ok := byPath[dir]
			if !ok {
				byPath[dir] = Directory(dir, 0o755)
			} else if !parent.Mode.IsDir() {
				return nil, fmt.Errorf("%s lies in %s, which is no directory", e.Path, dir)
			}
		}
	}
	all := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (e *Entry) check() error {
	if e.Path == "" || !fs.ValidPath(e.Path) || len(e.Path) > maxPathBytes || strings.ContainsRune(e.Path, 0) {
		return fmt.Errorf("path %q is not relative, clean and at most %d bytes long", e.Path, maxPathBytes)
	}
	for _, part := range strings.Split(e.Path, "/") {
		if len(part) > 255 {
			return fmt.Errorf("path %q has a part longer than 255 bytes", e.Path)
		}
	}
	if e.Path == "." && !e.Mode.IsDir() {
		return errors.New(`"." is not a directory`)
	}
	if e.Mode&^(fs.ModeType|fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
		return fmt.Errorf("%s: mode %v has bits that an image cannot hold", e.Path, e.Mode)
	}
	switch e.Mode.Type() {
	case 0:
		if e.Content.None() {
			return fmt.Errorf("%s is a regular file without content", e.Path)
		}
		return nil
	case fs.ModeSymlink:
		if e.Target == "" || len(e.Target) > maxPathBytes || strings.ContainsRune(e.Target, 0) {
			return fmt.Errorf("%s is a symbolic link to %q, which is no path", e.Path, e.Target)
		}
	case fs.ModeDir:
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if e.Major > 0xfff || e.Minor > 0xfffff { // dev_t of Linux: 12 and 20 bits
			return fmt.Errorf("%s: device %d:%d is out of range", e.Path, e.Major, e.Minor)
		}
	default:
		return fmt.Errorf("%s: an image holds regular files, directories, symbolic links and devices, not %v", e.Path, e.Mode.Type())
	}
	if !e.Content.None() {
		return fmt.Errorf("%s has content, but is no regular file", e.Path)
	}
	return nil
}

// unixMode is st_mode as in Linux's <linux/stat.h>.
func (e *Entry) unixMode() uint16 {
	m := uint16(e.Mode.Perm())
	switch e.Mode.Type() {
	case 0:
		m |= 0o100000
	case fs.ModeDir:
		m |= 0o040000
	case fs.ModeSymlink:
		m |= 0o120000
	case fs.ModeDevice:
		m |= 0o060000
	case fs.ModeDevice | fs.ModeCharDevice:
		m |= 0o020000
	}
	if e.Mode&fs.ModeSetuid != 0 {
		m |= 0o4000
	}
	if e.Mode&fs.ModeSetgid != 0 {
		m |= 0o2000
	}
	if e.Mode&fs.ModeSticky != 0 {
		m |= 0o1000
	}
	return m
}
