package image

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/backend/file"
)

// TestVectors holds the bytes of the image of testSpec. They change when a
// format or one of the libraries that write it does; every published release
// that is to be rebuilt then needs the builder that it names.
func TestVectors(t *testing.T) {
	want := strings.Join([]string{
		"3ea0407a8cdc71d6162918df7accac1babc7f2a9914eabf1b6583cf14eacb314  cmdline",
		"d34ed76f9ab8e43c2f36ee54611776392ffa3d86ba12e9fd6bef79ba7120ee34  disk.img",
		"e4585e33e70f969ec4b816d6793954ac8921c8381a03e142826af79377d06b58  initrd.cpio",
		"465ec119b6112f83b8aa29a9966c08067b2c8caecfce0c95591bd0bdc4b9547d  root.erofs",
		"5f057894cb6a2933e4bc3b3e2bfdf0357c31b28fd145e137fd5915e5934d2b36  root.verity",
		"787f25642b7a5da6c46d511f1488318dd33310797c4ffc8f090b5190ebd93c67  uki.efi",
		"d6d4c55f25f307cc851869ee6b7d4c715fecbbecc2a66b5330a8f08a3140b52b  vmlinuz",
		"793eefe6370cffa0a4d3bd23dcd1567daa33cd6348ad64262d56ba6a2885e3bf  weights.erofs",
		"27e16adf09706e4233c3a226b9df5cfcfd84b123882a5c7ba616ae92840c803f  weights.verity",
	}, "\n")
	var got []string
	for _, a := range assemble(t, testSpec(t)).Artefacts {
		got = append(got, a.String())
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("artefacts are now\n%s", strings.Join(got, "\n"))
	}
}

func TestUKIRefuses(t *testing.T) {
	good := []section{{".linux", Bytes([]byte("x"))}}
	at := func(off int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[off:], v); return b }
	}
	same := func(b []byte) []byte { return b }
	for name, c := range map[string]struct {
		change   func([]byte) []byte
		sections []section
		want     string
	}{
		"empty":                {func([]byte) []byte { return nil }, good, "no PE file"},
		"no MZ":                {at(0, 'X'), good, "no PE file"},
		"no PE":                {at(0x40, 'X'), good, "no PE file"},
		"far header":           {at(0x3c, 0, 0, 0, 0x7f), good, "beyond 1 MiB"},
		"negative header":      {at(0x3c, 0xff, 0xff, 0xff, 0xff), good, "beyond 1 MiB"},
		"header at the end":    {at(0x3c, 0xf8, 0x07), good, "no PE file"},
		"for ARM":              {at(0x44, 0x64, 0xaa), good, "machine 0xaa64"},
		"32-bit":               {at(0x58, 0x0b, 0x01), good, "PE32+"},
		"short header":         {at(0x54, 0x10), good, "PE32+"},
		"odd alignment":        {at(0x58+32, 0x03), good, "alignment"},
		"no alignment":         {at(0x58+36, 0, 0), good, "alignment"},
		"no sections":          {at(0x46, 0), good, "section table"},
		"too many sections":    {at(0x46, 0xff, 0xff), good, "section table"},
		"headers too long":     {at(0x58+60, 0, 0, 0, 0x7f), good, "section table"},
		"section outside":      {at(0x148+20, 0, 0xff), good, "section 0 lies outside"},
		"section far away":     {at(0x148+12, 0, 0, 0, 0x7f), good, "section 0 lies outside"},
		"same name twice":      {at(0x148+40, []byte(".text\x00\x00\x00\x00")...), good, "two sections"},
		"cut":                  {func(b []byte) []byte { return b[:0x700] }, good, "section 1 lies outside"},
		"name taken":           {same, []section{{".text", Bytes([]byte("x"))}}, "a section .text already"},
		"added twice":          {same, append(good, good...), "a section .linux already"},
		"empty section":        {same, []section{{".linux", Bytes(nil)}}, "does not fit"},
		"long name":            {same, []section{{".linux-64", Bytes([]byte("x"))}}, "does not fit"},
		"section of 2 GiB":     {same, []section{{".linux", Content{1 << 31, nil}}}, "does not fit"},
		"no room for sections": {same, make([]section, 30), "room for 15 more"},
	} {
		if err := writeUKI(io.Discard, c.change(simulatedStub()), c.sections); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func FuzzUKI(f *testing.F) {
	f.Add(simulatedStub())
	f.Fuzz(func(t *testing.T, stub []byte) {
		var out bytes.Buffer
		if err := writeUKI(&out, stub, []section{{".linux", Bytes([]byte("kernel"))}}); err != nil {
			return
		}
		pe, err := parsePE(out.Bytes())
		if err != nil || !pe.sections[".linux"] {
			t.Errorf("accepted, and what comes out is not a UKI: %v", err)
		}
	})
}

// TestFAT32Layout holds what Microsoft's specification demands for every size.
func TestFAT32Layout(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		size := r.Int64N(maxUKIBytes)
		switch i {
		case 0:
			size = 1
		case 1:
			size = maxUKIBytes
		case 2:
			size = fatSmallBytes - fatSlackBytes
		}
		if i%2 == 0 {
			size %= 400 << 20
		}
		f, err := newFAT32(max(size, 1))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		end := fatReserved + 2*f.fatSectors + f.clusters*f.sectorsPerCluster
		switch {
		case f.clusters < 65525 || f.clusters > 0x0ffffff4:
			t.Errorf("%d bytes: %d clusters", size, f.clusters)
		case end > f.sectors:
			t.Errorf("%d bytes: the clusters end at sector %d of %d", size, end, f.sectors)
		case f.fatSectors*128 < f.clusters+2:
			t.Errorf("%d bytes: the table has room for %d of %d clusters", size, f.fatSectors*128, f.clusters+2)
		case f.clusterOffset(fatFirstFileCluster)+size > f.size():
			t.Errorf("%d bytes: the file ends behind the file system", size)
		case f.size() < fatSmallBytes != (f.sectorsPerCluster == 1) && f.size() != fatSmallBytes:
			t.Errorf("%d bytes: clusters of %d sectors", size, f.sectorsPerCluster)
		}
	}
	if _, err := newFAT32(maxUKIBytes + 1); err == nil {
		t.Error("a file of more than 2 GiB was laid out")
	}
}

// TestLargeESP writes a file system with clusters of 4 KiB.
func TestLargeESP(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 MB: -short")
	}
	const size = 280<<20 + 17
	uki := Content{size, func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, size-4), strings.NewReader("last"))), nil
	}}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeDisk(f, uki, []byte("digest"), nil, time.Unix(1_760_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	disk, err := diskfs.OpenBackend(file.New(f, true), diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	esp, err := disk.GetFilesystem(1)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := esp.ReadDir("EFI/BOOT")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); e.Name() == "BOOTX64.EFI" && (err != nil || fi.Size() != size) {
			t.Errorf("the file has %d bytes, %v", fi.Size(), err)
		}
	}
	got, err := esp.OpenFile("EFI/BOOT/BOOTX64.EFI", os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Seek(size-4, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4) // go-diskfs reads on to the end of the cluster
	if _, err := io.ReadFull(got, b); err != nil || string(b) != "last" {
		t.Errorf("the file ends in %q, %v", b, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFATTime(t *testing.T) {
	for text, want := range map[string]uint32{
		"1980-01-01T00:00:00Z":      0x0021_0000,
		"2025-10-09T08:53:20Z":      0x5b49_46aa,
		"2025-10-09T17:53:21+09:00": 0x5b49_46aa,
		"2099-12-31T23:59:59Z":      0xef9f_bf7d,
	} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := fatTime(at); got != want {
			t.Errorf("%s is %#x, want %#x", text, got, want)
		}
	}
}

func TestGUID(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g := parseGUID(text)
	if g.String() != text || hex.EncodeToString(g[:]) != "28732ac11ff8d211ba4b00a0c93ec93b" {
		t.Errorf("%s is %x", g, g[:])
	}
	for range 20 {
		d := deriveGUID("test", binary.LittleEndian.AppendUint64(nil, rand.Uint64())).String()
		if d[14] != '8' || !strings.ContainsRune("89ab", rune(d[19])) {
			t.Errorf("%s is not of version 8", d)
		}
	}
	if derive("a", []byte("bc")) == derive("a", []byte("b"), []byte("c")) || derive("a") == derive("b") {
		t.Error("other input, same identifier")
	}
}
