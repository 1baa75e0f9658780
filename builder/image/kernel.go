package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// StubPath is where Debian's systemd-boot-efi keeps the EFI stub for x86-64.
const StubPath = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// maxModulesBytes bounds all modules together; what a virtual machine needs has
// a few MiB.
const maxModulesBytes = 128 << 20

// Kernel is what an image takes from a Debian kernel package.
type Kernel struct {
	Release string // "6.1.0-53-cloud-amd64"
	Image   Content
	Modules []Module // in the order asked for, uncompressed
}

// KernelFromDeb takes the kernel and the named modules ("dm-verity", without
// ending) from a linux-image package. Modules that are built into this kernel
// are left out; one that is neither there nor built in is an error.
func KernelFromDeb(r io.Reader, modules []string) (*Kernel, error) {
	wanted := map[string]bool{}
	for _, m := range modules {
		if wanted[m] {
			return nil, fmt.Errorf("taking a kernel from a Debian package: module %q is asked for twice", m)
		}
		wanted[m] = true
	}
	files, err := collect(r, maxKernelBytes, func(p string) bool {
		name, isModule := moduleName(p)
		return strings.HasPrefix(p, "boot/vmlinuz-") || path.Base(p) == "modules.builtin" || isModule && wanted[name]
	})
	if err != nil {
		return nil, fmt.Errorf("taking a kernel from a Debian package: %w", err)
	}
	k := &Kernel{}
	builtin := map[string]bool{}
	byName := map[string]Module{}
	left := maxModulesBytes
	for p, b := range files {
		switch name, isModule := moduleName(p); {
		case isModule:
			if _, ok := byName[name]; ok {
				return nil, fmt.Errorf("taking a kernel from a Debian package: module %s is in it twice", name)
			}
			plain, err := expandModule(p, b)
			if err != nil {
				return nil, fmt.Errorf("taking a kernel from a Debian package: expanding %s: %w", p, err)
			}
			if left -= len(plain); left < 0 {
				return nil, fmt.Errorf("taking a kernel from a Debian package: its modules expand to more than %d bytes", maxModulesBytes)
			}
			byName[name] = Module{Name: name + ".ko", Content: Bytes(plain)}
		case path.Base(p) == "modules.builtin":
			for _, line := range strings.Fields(string(b)) {
				if name, ok := moduleName("lib/modules/x/" + line); ok {
					builtin[name] = true
				}
			}
		case k.Release != "":
			return nil, errors.New("taking a kernel from a Debian package: it holds two kernels")
		default:
			k.Release, k.Image = strings.TrimPrefix(p, "boot/vmlinuz-"), Bytes(b)
		}
	}
	if k.Release == "" {
		return nil, errors.New("taking a kernel from a Debian package: it holds no /boot/vmlinuz-*: name the package linux-image-VERSION, not the one that depends on it")
	}
	for _, name := range modules {
		m, ok := byName[name]
		switch {
		case ok:
			k.Modules = append(k.Modules, m)
		case !builtin[canonicalModule(name)] && !builtin[name]:
			return nil, fmt.Errorf("taking kernel %s from a Debian package: it has no module %q", k.Release, name)
		}
	}
	return k, nil
}

// moduleName gives the name of a module by its path below (usr/)lib/modules/RELEASE/.
func moduleName(p string) (string, bool) {
	p = strings.TrimPrefix(p, "usr/")
	if !strings.HasPrefix(p, "lib/modules/") {
		return "", false
	}
	base := path.Base(p)
	for _, ending := range []string{".ko", ".ko.xz", ".ko.zst"} {
		if name, ok := strings.CutSuffix(base, ending); ok {
			return name, true
		}
	}
	return "", false
}

// canonicalModule is a module's name as the kernel says it: "-" and "_" are the
// same in file names.
func canonicalModule(name string) string { return strings.ReplaceAll(name, "-", "_") }

func expandModule(p string, b []byte) ([]byte, error) {
	var r io.Reader
	switch path.Ext(p) {
	case ".xz":
		z, err := newXZ(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		r = z
	case ".zst":
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDebWindow))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return b, nil
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxModuleBytes+1))
	if err == nil && len(plain) > maxModuleBytes {
		err = fmt.Errorf("it has more than %d bytes", maxModuleBytes)
	}
	return plain, err
}

// StubFromDeb takes the EFI stub from a systemd-boot-efi package.
func StubFromDeb(r io.Reader) (Content, error) {
	files, err := FilesFromDeb(r, maxStubBytes, StubPath)
	if err != nil {
		return Content{}, fmt.Errorf("taking the EFI stub from a Debian package: %w", err)
	}
	return Bytes(files[StubPath]), nil
}
