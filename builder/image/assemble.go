package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
	"github.com/vitrine-dev/vitrine/log/durable"
)

// Names of the artefacts that do not belong to a volume.
const (
	InitrdName  = "initrd.cpio"
	CmdlineName = "cmdline"
	KernelName  = "vmlinuz"
	UKIName     = "uki.efi"
	DiskName    = "disk.img"
)

// Artefact is one file that Assemble wrote.
type Artefact struct {
	Name   string // relative to Output.Dir
	Size   int64
	SHA256 [sha256.Size]byte
}

// Output is what Assemble made.
type Output struct {
	Dir       string
	Artefacts []Artefact           // sorted by name
	Volumes   []guestconfig.Volume // in the order of the Spec, with root hashes
}

// Path is where the named artefact lies, or "" if there is none of that name.
func (o *Output) Path(name string) string {
	for _, a := range o.Artefacts {
		if a.Name == name {
			return filepath.Join(o.Dir, a.Name)
		}
	}
	return ""
}

const defaultOSRelease = "NAME=\"Vitrine\"\nID=vitrine\nPRETTY_NAME=\"Vitrine image\"\n"

// Assemble writes the artefacts of spec into outDir, which it creates if need
// be. They are written in a folder inside it, synced, and renamed when all of
// them are complete, so that an error (other than one of renaming) leaves in
// outDir what it held before. Other files in it are left alone.
func Assemble(ctx context.Context, spec Spec, outDir string) (_ *Output, err error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	if err := os.MkdirAll(outDir, 0o755); err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	tmp, err := os.MkdirTemp(outDir, ".assemble-")
	if err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	defer func() {
		if rmErr := os.RemoveAll(tmp); err == nil && rmErr != nil {
			err = fmt.Errorf("assembling an image: %w", rmErr)
		}
	}()
	a := &assembly{ctx: ctx, spec: &spec, dir: tmp}
	if err := a.run(); err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	slices.SortFunc(a.artefacts, func(x, y Artefact) int { return strings.Compare(x.Name, y.Name) })
	for _, art := range a.artefacts {
		if err := os.Rename(filepath.Join(tmp, art.Name), filepath.Join(outDir, art.Name)); err != nil {
			return nil, fmt.Errorf("assembling an image: %w", err)
		}
	}
	if err := durable.SyncDir(outDir); err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	return &Output{Dir: outDir, Artefacts: a.artefacts, Volumes: a.volumes}, nil
}

type assembly struct {
	ctx       context.Context
	spec      *Spec
	dir       string
	artefacts []Artefact
	volumes   []guestconfig.Volume
}

// run makes the artefacts in the order in which each depends on those before.
func (a *assembly) run() error {
	disk, err := a.makeVolumes()
	if err != nil {
		return err
	}
	initrd, err := a.makeInitrd()
	if err != nil {
		return err
	}
	if _, err := a.write(CmdlineName, func(f *os.File) error {
		_, err := io.WriteString(f, a.spec.CommandLine)
		return err
	}); err != nil {
		return err
	}
	if !a.spec.Kernel.None() {
		if _, err := a.write(KernelName, a.copying(a.spec.Kernel)); err != nil {
			return err
		}
	}
	var uki Content
	var ukiDigest []byte
	if !a.spec.Stub.None() {
		art, err := a.makeUKI(initrd)
		if err != nil {
			return err
		}
		if uki, err = File(filepath.Join(a.dir, UKIName)); err != nil {
			return err
		}
		ukiDigest = art.SHA256[:]
	}
	if !a.spec.Disk {
		return nil
	}
	_, err = a.write(DiskName, func(f *os.File) error {
		return writeDisk(f, a.guard(uki), ukiDigest, disk, a.spec.Epoch)
	})
	return err
}

func (a *assembly) makeVolumes() ([]diskVolume, error) {
	services, err := guestconfig.Encode(&guestconfig.Services{Services: a.spec.Services})
	if err != nil {
		return nil, err
	}
	var disk []diskVolume
	for i, v := range a.spec.Volumes {
		entries := v.Entries
		if i == 0 {
			if entries, err = rootEntries(v, a.spec.Volumes[1:], services); err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
		all, err := tree(entries)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		for i := range all {
			all[i].Content = a.guard(all[i].Content)
		}
		dataName, hashName := v.Name+".erofs", v.Name+".verity"
		if _, err := a.write(dataName, func(f *os.File) error { return writeEROFS(f, all, a.spec.Epoch) }); err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		var gv guestconfig.Volume
		if _, err := a.write(hashName, func(f *os.File) error {
			gv, err = writeVerity(v, filepath.Join(a.dir, dataName), f.Name())
			return err
		}); err != nil {
			return nil, err
		}
		a.volumes = append(a.volumes, gv)
		data, err := File(filepath.Join(a.dir, dataName))
		if err != nil {
			return nil, err
		}
		hash, err := File(filepath.Join(a.dir, hashName))
		if err != nil {
			return nil, err
		}
		disk = append(disk, diskVolume{gv, a.guard(data), a.guard(hash)})
	}
	return disk, nil
}

func (a *assembly) makeInitrd() (Content, error) {
	config := &guestconfig.Init{Network: a.spec.Network}
	entries := []Entry{
		{Path: "dev/console", Mode: os.ModeDevice | os.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		Directory("proc", 0o755), Directory("sys", 0o755), Directory("root", 0o755),
		RegularFile("init", 0o755, a.guard(a.spec.Init)),
	}
	for _, m := range a.spec.Modules {
		config.Modules = append(config.Modules, m.Name)
		entries = append(entries, RegularFile(guestconfig.ModulesDir+"/"+m.Name, 0o644, a.guard(m.Content)))
	}
	for name, v := range map[string]any{
		guestconfig.InitPath:    config,
		guestconfig.VolumesPath: &guestconfig.Volumes{Volumes: a.volumes},
	} {
		b, err := guestconfig.Encode(v)
		if err != nil {
			return Content{}, err
		}
		entries = append(entries, RegularFile(name, 0o644, Bytes(b)))
	}
	all, err := tree(entries)
	if err != nil {
		return Content{}, fmt.Errorf("initrd: %w", err)
	}
	if _, err := a.write(InitrdName, func(f *os.File) error { return writeCPIO(f, all, a.spec.Epoch) }); err != nil {
		return Content{}, err
	}
	return File(filepath.Join(a.dir, InitrdName))
}

func (a *assembly) makeUKI(initrd Content) (Artefact, error) {
	stub, err := a.spec.Stub.readAll(maxStubBytes)
	if err != nil {
		return Artefact{}, fmt.Errorf("reading the EFI stub: %w", err)
	}
	osRelease := a.spec.OSRelease
	if osRelease == "" {
		osRelease = defaultOSRelease
	}
	// The order is free for the firmware; this is the one in which systemd-stub
	// measures them into PCR 11.
	sections := []section{{".linux", a.guard(a.spec.Kernel)}, {".osrel", Bytes([]byte(osRelease))}}
	if a.spec.CommandLine != "" {
		sections = append(sections, section{".cmdline", Bytes([]byte(a.spec.CommandLine))})
	}
	sections = append(sections, section{".initrd", a.guard(initrd)})
	if a.spec.KernelRelease != "" {
		sections = append(sections, section{".uname", Bytes([]byte(a.spec.KernelRelease))})
	}
	return a.write(UKIName, func(f *os.File) error { return writeUKI(f, stub, sections) })
}

func (a *assembly) copying(c Content) func(*os.File) error {
	return func(f *os.File) error {
		_, err := a.guard(c).WriteTo(f)
		return err
	}
}

// write makes one artefact: fill, sync, digest.
func (a *assembly) write(name string, fill func(*os.File) error) (Artefact, error) {
	if err := a.ctx.Err(); err != nil {
		return Artefact{}, err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return Artefact{}, err
	}
	defer f.Close()
	if err := fill(f); err != nil {
		return Artefact{}, err
	}
	if err := f.Sync(); err != nil {
		return Artefact{}, fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Artefact{}, fmt.Errorf("writing %s: %w", name, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, &contextReader{f, a.ctx})
	if err != nil {
		return Artefact{}, fmt.Errorf("digesting %s: %w", name, err)
	}
	art := Artefact{Name: name, Size: n, SHA256: [sha256.Size]byte(h.Sum(nil))}
	a.artefacts = append(a.artefacts, art)
	return art, nil
}

// guard makes reading c end when the context does.
func (a *assembly) guard(c Content) Content {
	if c.None() {
		return c
	}
	open := c.open
	c.open = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return &contextReader{r, a.ctx}, nil
	}
	return c
}

type contextReader struct {
	io.ReadCloser
	ctx context.Context
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

// String is the digest in hex, two spaces and the name, as sha256sum(1) prints.
func (a Artefact) String() string { return hex.EncodeToString(a.SHA256[:]) + "  " + a.Name }
