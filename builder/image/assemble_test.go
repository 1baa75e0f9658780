package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/containerd/go-dmverity/pkg/verity"
	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/erofs/go-erofs"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// testSpec is an image of every kind of entry, with a made-up kernel and stub.
func testSpec(t testing.TB) Spec {
	t.Helper()
	big := make([]byte, 300_001)
	rand.NewChaCha8([32]byte{1}).Read(big)
	return Spec{
		Epoch:         time.Unix(1_760_000_000, 0),
		Kernel:        Bytes(bytes.Repeat([]byte("kernel "), 5000)),
		KernelRelease: "6.1.0-test",
		Modules:       []Module{{"virtio.ko", Bytes([]byte("module one"))}, {"dm-mod.ko", Bytes([]byte("module two"))}},
		Stub:          Bytes(simulatedStub()),
		CommandLine:   "console=ttyS0 panic=-1",
		Init:          Bytes([]byte("\x7fELF init")),
		Network:       &guestconfig.Network{Interface: "eth0", Address: "10.0.2.15/24"},
		Services:      []guestconfig.Service{{Name: "node", Argv: []string{"/usr/bin/node", "-v"}, Env: []string{"A=b"}}},
		Volumes: []Volume{
			{Name: "root", Mount: "/", Entries: []Entry{
				RegularFile("usr/bin/node", 0o755, Bytes(big)),
				RegularFile("etc/empty", 0o600, Bytes(nil)),
				{Path: "usr/bin/su", Mode: 0o755 | fs.ModeSetuid, UID: 7, GID: 8, Content: Bytes([]byte("su"))},
				Symlink("bin", "usr/bin"),
				Directory("srv", 0o700),
				{Path: "srv/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
			}},
			{Name: "weights", Mount: "/srv/weights", Entries: []Entry{RegularFile("model.bin", 0o444, Bytes(big[:70_000]))}},
		},
		Disk: true,
	}
}

// simulatedStub is a PE32+ file of two sections with room for more.
func simulatedStub() []byte {
	b := make([]byte, 0x800)
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00\x64\x86\x02\x00")
	b[0x54] = 0xf0 // size of the optional header
	opt := b[0x58:]
	copy(opt, []byte{0x0b, 0x02})
	copy(opt[32:], []byte{0, 2, 0, 0, 0, 2, 0, 0}) // alignments
	copy(opt[60:], []byte{0, 4})                   // SizeOfHeaders
	copy(opt[64:], []byte{1, 2, 3, 4})             // CheckSum
	opt[108] = 16                                  // NumberOfRvaAndSizes
	for i, name := range []string{".text", ".sdmagic"} {
		h := b[0x148+40*i:]
		copy(h, name)
		copy(h[8:], []byte{0x80, 1})
		copy(h[12:], []byte{0, byte(0x40 + 2*i)})
		copy(h[16:], []byte{0, 2})
		copy(h[20:], []byte{0, byte(4 + 2*i)})
	}
	return b
}

func assemble(t testing.TB, spec Spec) *Output {
	t.Helper()
	out, err := Assemble(context.Background(), spec, filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, out *Output, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(out.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSameBits builds the same image from other folders, with another umask,
// other source times and another order of entries and files.
func TestSameBits(t *testing.T) {
	first := assemble(t, testSpec(t))

	spec := testSpec(t)
	dir := t.TempDir()
	for v := range spec.Volumes {
		for i, e := range spec.Volumes[v].Entries {
			if !e.Mode.IsRegular() {
				continue
			}
			b, err := e.Content.readAll(1 << 30)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, fmt.Sprintf("%d-%d", v, i))
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(name, time.Now(), time.Now().Add(-48*time.Hour)); err != nil {
				t.Fatal(err)
			}
			if spec.Volumes[v].Entries[i].Content, err = File(name); err != nil {
				t.Fatal(err)
			}
		}
		slices.Reverse(spec.Volumes[v].Entries)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "C.UTF-8")
	spec.Epoch = spec.Epoch.In(time.FixedZone("far", 9*3600))
	second := assemble(t, spec)

	if !slices.Equal(first.Artefacts, second.Artefacts) {
		t.Errorf("two builds differ:\n%v\n%v", first.Artefacts, second.Artefacts)
	}
	if !slices.Equal(first.Volumes, second.Volumes) {
		t.Errorf("two builds differ:\n%v\n%v", first.Volumes, second.Volumes)
	}
	want := []string{"cmdline", "disk.img", "initrd.cpio", "root.erofs", "root.verity", "uki.efi", "vmlinuz", "weights.erofs", "weights.verity"}
	var got []string
	for _, a := range first.Artefacts {
		got = append(got, a.Name)
		if sum := sha256.Sum256(read(t, first, a.Name)); sum != a.SHA256 {
			t.Errorf("%s: digest in the output is not that of the file", a.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("artefacts are %v, want %v", got, want)
	}
}

// TestEachInputCounts changes one thing of the Spec at a time: everything that
// init or a service could notice has to reach what is measured.
func TestEachInputCounts(t *testing.T) {
	before := assemble(t, testSpec(t))
	digest := func(o *Output, name string) string {
		for _, a := range o.Artefacts {
			if a.Name == name {
				return hex.EncodeToString(a.SHA256[:])
			}
		}
		return ""
	}
	for name, change := range map[string]func(*Spec){
		"command line":     func(s *Spec) { s.CommandLine += " quiet" },
		"kernel":           func(s *Spec) { s.Kernel = Bytes([]byte("other")) },
		"module order":     func(s *Spec) { slices.Reverse(s.Modules) },
		"init":             func(s *Spec) { s.Init = Bytes([]byte("other")) },
		"address":          func(s *Spec) { s.Network.Address = "10.0.2.16/24" },
		"service":          func(s *Spec) { s.Services[0].Env = nil },
		"mode of a file":   func(s *Spec) { s.Volumes[0].Entries[0].Mode = 0o555 },
		"owner of a file":  func(s *Spec) { s.Volumes[0].Entries[0].UID = 1 },
		"link":             func(s *Spec) { s.Volumes[0].Entries[3].Target = "usr/sbin" },
		"device":           func(s *Spec) { s.Volumes[0].Entries[5].Minor = 5 },
		"mount point":      func(s *Spec) { s.Volumes[1].Mount = "/srv/other" },
		"second volume":    func(s *Spec) { s.Volumes[1].Entries[0].Content = Bytes([]byte("x")) },
		"epoch":            func(s *Spec) { s.Epoch = s.Epoch.Add(time.Second) },
		"os-release":       func(s *Spec) { s.OSRelease = "NAME=other\n" },
		"name of a volume": func(s *Spec) { s.Volumes[1].Name = "other" },
	} {
		spec := testSpec(t)
		change(&spec)
		after := assemble(t, spec)
		if digest(before, UKIName) == digest(after, UKIName) {
			t.Errorf("%s: changed, and the UKI is the same", name)
		}
	}
}

func TestInitrd(t *testing.T) {
	out := assemble(t, testSpec(t))
	r := cpio.NewReader(bytes.NewReader(read(t, out, InitrdName)))
	files := map[string]string{}
	var names []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b)
		if h.ModTime.Unix() != 1_760_000_000 || h.Uid != 0 {
			t.Errorf("%s: time %v, user %d", h.Name, h.ModTime, h.Uid)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not sorted: %v", names)
	}
	if files["init"] != "\x7fELF init" || files["lib/modules/dm-mod.ko"] != "module two" {
		t.Errorf("files are %q", files)
	}
	if _, ok := files["dev/console"]; !ok {
		t.Error("there is no /dev/console: init would have no voice")
	}
	in, err := guestconfig.ParseInit([]byte(files[guestconfig.InitPath]))
	if err != nil || !slices.Equal(in.Modules, []string{"virtio.ko", "dm-mod.ko"}) {
		t.Errorf("init.json is %+v, %v", in, err)
	}
	vols, err := guestconfig.ParseVolumes([]byte(files[guestconfig.VolumesPath]))
	if err != nil || !slices.Equal(vols.Volumes, out.Volumes) {
		t.Errorf("volumes.json is %+v, %v", vols, err)
	}
}

func TestVolumes(t *testing.T) {
	spec := testSpec(t)
	out := assemble(t, spec)
	for _, v := range out.Volumes {
		root, _ := hex.DecodeString(v.RootHash)
		salt, _ := hex.DecodeString(v.Salt)
		p := verity.Params{HashName: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: v.DataBlocks,
			HashAreaOffset: guestconfig.HashStart, Salt: salt, SaltSize: 32, NoSuperblock: true}
		if err := verity.Verify(&p, out.Path(v.Name+".erofs"), out.Path(v.Name+".verity"), root); err != nil {
			t.Errorf("volume %s: %v", v.Name, err)
		}
	}
	img, err := erofs.Open(bytes.NewReader(read(t, out, "root.erofs")))
	if err != nil {
		t.Fatal(err)
	}
	type file struct {
		mode     uint16 // st_mode: what go-erofs puts in the low bits of a FileMode
		uid, gid uint32
		rdev     uint32
		body     string
	}
	got := map[string]file{}
	err = fs.WalkDir(img, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*erofs.Stat)
		f := file{mode: uint16(fi.Mode()), uid: st.UID, gid: st.GID, rdev: st.Rdev}
		if fi.ModTime().Unix() != spec.Epoch.Unix() {
			t.Errorf("%s: time %v", p, fi.ModTime())
		}
		switch {
		case fi.Mode().IsRegular():
			b, err := fs.ReadFile(img, p)
			if err != nil {
				return err
			}
			f.body = string(b)
		case fi.Mode()&fs.ModeSymlink != 0:
			f.body, err = fs.ReadLink(img, p)
			if err != nil {
				return err
			}
		}
		got[p] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	big, _ := spec.Volumes[0].Entries[0].Content.readAll(1 << 20)
	for p, want := range map[string]file{
		"usr/bin/node": {mode: 0o100755, body: string(big)},
		"etc/empty":    {mode: 0o100600},
		"usr/bin/su":   {mode: 0o104755, uid: 7, gid: 8, body: "su"},
		"bin":          {mode: 0o120777, body: "usr/bin"},
		"srv":          {mode: 0o040700},
		"srv/null":     {mode: 0o020666, rdev: 0x103},
		"srv/weights":  {mode: 0o040755},
		"tmp":          {mode: 0o040755},
	} {
		if got[p] != want {
			if len(want.body) > 100 {
				t.Errorf("%s differs", p)
				continue
			}
			t.Errorf("%s is %+v, want %+v", p, got[p], want)
		}
	}
	if _, err := guestconfig.ParseServices([]byte(got[guestconfig.ServicesPath].body)); err != nil {
		t.Error(err)
	}
}

func TestUKI(t *testing.T) {
	spec := testSpec(t)
	out := assemble(t, spec)
	b := read(t, out, UKIName)
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kernel, _ := spec.Kernel.readAll(1 << 20)
	want := []struct {
		name string
		body []byte
	}{
		{".linux", kernel}, {".osrel", []byte(defaultOSRelease)}, {".cmdline", []byte(spec.CommandLine)},
		{".initrd", read(t, out, InitrdName)}, {".uname", []byte("6.1.0-test")},
	}
	if len(f.Sections) != 2+len(want) {
		t.Fatalf("%d sections", len(f.Sections))
	}
	for i, w := range want {
		s := f.Sections[2+i]
		raw, err := s.Data()
		if err != nil || s.Name != w.name || int(s.VirtualSize) != len(w.body) || !bytes.Equal(raw[:s.VirtualSize], w.body) {
			t.Errorf("section %d: %s, %d bytes, %v", i, s.Name, s.VirtualSize, err)
		}
		if s.Characteristics != 0x40000040 || s.VirtualAddress%0x200 != 0 || s.Offset%0x200 != 0 {
			t.Errorf("section %s: %+v", s.Name, s.SectionHeader)
		}
		if strings.Trim(string(raw[s.VirtualSize:]), "\x00") != "" {
			t.Errorf("section %s is not padded with zeros", s.Name)
		}
	}
	last := f.Sections[len(f.Sections)-1]
	oh := f.OptionalHeader.(*pe.OptionalHeader64)
	if oh.CheckSum != 0 || oh.SizeOfImage < last.VirtualAddress+last.VirtualSize {
		t.Errorf("checksum %#x, size of image %#x", oh.CheckSum, oh.SizeOfImage)
	}
}

// TestDisk reads the disk with an implementation that is not ours.
func TestDisk(t *testing.T) {
	out := assemble(t, testSpec(t))
	f, err := os.Open(out.Path(DiskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	disk, err := diskfs.OpenBackend(file.New(f, true), diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	pt, err := disk.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	table := pt.(*gpt.Table)
	if err := table.Verify(disk.Backend, uint64(disk.Size)); err != nil {
		t.Errorf("backup table: %v", err)
	}
	for i, label := range []string{"vitrine-esp", "vitrine-root", "vitrine-root.hash", "vitrine-weights", "vitrine-weights.hash"} {
		if table.Partitions[i].Name != label {
			t.Errorf("partition %d is %q, want %q", i+1, table.Partitions[i].Name, label)
		}
	}
	root := strings.ToLower(strings.ReplaceAll(table.Partitions[1].GUID+table.Partitions[2].GUID, "-", ""))
	if root != out.Volumes[0].RootHash {
		t.Errorf("the GUIDs of the root partitions are %s, not the root hash", root)
	}
	for i, name := range []string{"root.erofs", "root.verity", "weights.erofs", "weights.verity"} {
		p := table.Partitions[1+i]
		got := make([]byte, p.Size)
		if _, err := f.ReadAt(got, int64(p.Start)*512); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, read(t, out, name)) {
			t.Errorf("partition %d does not hold %s", i+2, name)
		}
	}
	esp, err := disk.GetFilesystem(1)
	if err != nil {
		t.Fatal(err)
	}
	uki, err := esp.OpenFile("EFI/BOOT/BOOTX64.EFI", os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(uki)
	if err != nil || !bytes.Equal(got, read(t, out, UKIName)) {
		t.Errorf("the EFI system partition holds another UKI: %d bytes, %v", len(got), err)
	}
}

func TestWithoutKernel(t *testing.T) {
	spec := testSpec(t)
	spec.Kernel, spec.Stub, spec.Modules = Content{}, Content{}, nil
	out := assemble(t, spec)
	if out.Path(UKIName) != "" || out.Path(KernelName) != "" || out.Path(DiskName) == "" {
		t.Errorf("artefacts are %v", out.Artefacts)
	}
}

// TestFailureLeavesNothing has the last of the inputs fail.
func TestFailureLeavesNothing(t *testing.T) {
	short := Content{10, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("123")), nil }}
	long := Content{2, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("123")), nil }}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		change func(*Spec)
	}{
		"kernel ends early":    {context.Background(), func(s *Spec) { s.Kernel = short }},
		"kernel is longer":     {context.Background(), func(s *Spec) { s.Kernel = long }},
		"root file ends early": {context.Background(), func(s *Spec) { s.Volumes[0].Entries[0].Content = short }},
		"root file is longer":  {context.Background(), func(s *Spec) { s.Volumes[0].Entries[0].Content = long }},
		"cancelled":            {cancelled, func(s *Spec) {}},
	} {
		spec := testSpec(t)
		c.change(&spec)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "uki.efi"), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Assemble(c.ctx, spec, dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "uki.efi")); string(b) != "old" {
			t.Errorf("%s: the old artefact is gone", name)
		}
	}
}
