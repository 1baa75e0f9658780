package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

type debMember struct {
	name string
	body []byte
}

// makeAr writes an ar archive, as dpkg-deb would.
func makeAr(members ...debMember) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.body))
		b = append(b, m.body...)
		if len(m.body)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

type tarFile struct {
	tar.Header
	body string
}

func makeTar(t testing.TB, files ...tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.body))
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case "", ".lzma":
		return b
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func makeDeb(t testing.TB, kind string, files ...tarFile) []byte {
	t.Helper()
	return makeAr(
		debMember{"debian-binary", []byte("2.0\n")},
		debMember{"control.tar.xz/", []byte("odd")},
		debMember{"data.tar" + kind, compress(t, kind, makeTar(t, files...))})
}

func TestControlOfDeb(t *testing.T) {
	const text = "Package: x\nVersion: 1.0\n"
	deb := func(kind string, files ...tarFile) []byte {
		return makeAr(
			debMember{"debian-binary", []byte("2.0\n")},
			debMember{"control.tar" + kind, compress(t, kind, makeTar(t, files...))},
			debMember{"data.tar", makeTar(t)})
	}
	for _, kind := range []string{"", ".gz", ".xz", ".zst"} {
		got, err := ControlOfDeb(bytes.NewReader(deb(kind, debFile("./md5sums", "x"), debFile("./control", text))))
		if err != nil || got != text {
			t.Errorf("control.tar%s: got %q, %v", kind, got, err)
		}
	}
	for name, b := range map[string][]byte{
		"none":           deb("", debFile("./md5sums", text)),
		"empty":          deb("", debFile("./control", "")),
		"two":            deb("", debFile("./control", text), debFile("control", text)),
		"a link":         deb("", tarFile{tar.Header{Name: "./control", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}),
		"a long one":     deb("", debFile("./control", strings.Repeat("x", maxControlFile+1))),
		"elsewhere":      deb("", debFile("./etc/control", text)),
		"of another":     deb(".lzma", debFile("./control", text)),
		"a bomb":         deb(".gz", debFile("./control", text), debFile("./md5sums", strings.Repeat("\x00", maxDebControl))),
		"not an archive": []byte(text),
	} {
		if got, err := ControlOfDeb(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func debFile(name, body string) tarFile {
	return tarFile{tar.Header{Name: name, Mode: 0o644}, body}
}

func TestReadDeb(t *testing.T) {
	files := []tarFile{
		{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o1777, Gid: 5}, ""},
		{tar.Header{Name: "./usr/bin/su", Mode: 0o6755, Uid: 3}, "su"},
		{tar.Header{Name: "./bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin", Mode: 0o777}, ""},
		{tar.Header{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./usr/bin/su", Mode: 0o644}, ""},
	}
	want := []string{
		`. drwxr-xr-x 0 0 "" ""`,
		`usr/bin dtrwxrwxrwx 0 5 "" ""`,
		`usr/bin/su ugrwxr-xr-x 3 0 "" "su"`,
		`bin Lrwxrwxrwx 0 0 "usr/bin" ""`,
		`usr/bin/hard ?rw-r--r-- 0 0 "usr/bin/su" ""`,
	}
	for _, kind := range []string{"", ".gz", ".xz", ".zst"} {
		var got []string
		err := ReadDeb(bytes.NewReader(makeDeb(t, kind, files...)), func(e Entry, size int64, content io.Reader) error {
			b, err := io.ReadAll(content)
			if int64(len(b)) != size {
				t.Errorf("%s: %d bytes, said to be %d", e.Path, len(b), size)
			}
			got = append(got, fmt.Sprintf("%s %v %d %d %q %q", e.Path, e.Mode, e.UID, e.GID, e.Target, b))
			return err
		})
		if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("data.tar%s: %v\n%s", kind, err, strings.Join(got, "\n"))
		}
	}
}

func TestReadDebRefuses(t *testing.T) {
	data := debMember{"data.tar", makeTar(t, debFile("./a", "b"))}
	version, control := debMember{"debian-binary", []byte("2.0\n")}, debMember{"control.tar.gz", nil}
	whole := makeAr(version, control, data)
	for name, c := range map[string]struct {
		deb  []byte
		want string
	}{
		"empty":                {nil, "ar archive"},
		"no archive":           {[]byte("PK\x03\x04 and more"), "ar archive"},
		"other version":        {makeAr(debMember{"debian-binary", []byte("3.0\n")}, control, data), "not 2.0"},
		"no version":           {makeAr(control, data), "not debian-binary"},
		"long version":         {makeAr(debMember{"debian-binary", []byte("2.0\nx")}, control, data), "not debian-binary"},
		"no control":           {makeAr(version, data), "not control.tar"},
		"no data":              {makeAr(version, control), "ar header"},
		"many members":         {makeAr(version, control, control, control, control, control, control, control, control, control, control), "no data.tar"},
		"unknown compression":  {makeAr(version, control, debMember{"data.tar.lzma", nil}), "compression"},
		"not compressed":       {makeAr(version, control, debMember{"data.tar.xz", []byte("this is not what an xz file looks like")}), "data.tar.xz"},
		"cut header":           {whole[:100], "ar header"},
		"cut data":             {whole[:len(whole)-1300], "EOF"},
		"cut padding":          {whole[:len(whole)-1], "EOF"},
		"broken checksum":      {brokenChecksum(t), "data.tar.xz"},
		"broken header end":    {bytes.Replace(whole, []byte("`\n"), []byte("xx"), 1), "does not end as one"},
		"negative size":        {bytes.Replace(whole, []byte("4         `"), []byte("-4        `"), 1), "size"},
		"absolute path":        {makeDeb(t, "", debFile("/etc/passwd", "")), "clean relative path"},
		"path with dots":       {makeDeb(t, "", debFile("./a/../../b", "")), "clean relative path"},
		"hard link out":        {makeDeb(t, "", tarFile{tar.Header{Name: "./a", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}, ""}), "clean relative path"},
		"a device":             {makeDeb(t, "", tarFile{tar.Header{Name: "./a", Typeflag: tar.TypeChar}, ""}), "tar type"},
		"a dictionary of 4 GB": {makeAr(version, control, debMember{"data.tar.xz", hugeDictionary(t)}), "dictionary"},
	} {
		err := ReadDeb(bytes.NewReader(c.deb), func(_ Entry, _ int64, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	mine := errors.New("mine")
	if err := ReadDeb(bytes.NewReader(whole), func(Entry, int64, io.Reader) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the error of the callback is lost: %v", err)
	}
}

// hugeDictionary is an xz stream whose block header asks for 4 GiB - 1.
func hugeDictionary(t *testing.T) []byte {
	b := compress(t, ".xz", []byte("x"))
	i := bytes.Index(b[12:], []byte{0x21, 0x01})
	b[12+i+2] = 40
	return b
}

// brokenChecksum is a package whose xz stream has one other bit in the CRC64 of
// its content (12 bytes of footer, 8 of index and 8 of checksum from the end).
func brokenChecksum(t *testing.T) []byte {
	b := compress(t, ".xz", makeTar(t, debFile("./a", "b")))
	b[len(b)-21] ^= 1
	return makeAr(debMember{"debian-binary", []byte("2.0\n")}, debMember{"control.tar", nil}, debMember{"data.tar.xz", b})
}

func TestFilesFromDeb(t *testing.T) {
	deb := makeDeb(t, ".xz", debFile("./a", "one"), debFile("./b", "two"), debFile("./c", "three"),
		tarFile{tar.Header{Name: "./link", Typeflag: tar.TypeSymlink, Linkname: "a"}, ""})
	got, err := FilesFromDeb(bytes.NewReader(deb), 100, "a", "c")
	if err != nil || len(got) != 2 || string(got["a"]) != "one" || string(got["c"]) != "three" {
		t.Errorf("%q, %v", got, err)
	}
	for name, c := range map[string]struct {
		max   int64
		names []string
		want  string
	}{
		"missing":   {100, []string{"a", "d"}, "no file d"},
		"too large": {7, []string{"a", "c"}, "more than 7 bytes (at c)"},
		"a link":    {100, []string{"link"}, "link is no regular file"},
	} {
		if _, err := FilesFromDeb(bytes.NewReader(deb), c.max, c.names...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := makeDeb(t, "", debFile("./a", "one"), debFile("./a", "two"))
	if _, err := FilesFromDeb(bytes.NewReader(twice), 100, "a"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: %v", err)
	}
}

func TestKernelFromDeb(t *testing.T) {
	const dir = "./lib/modules/6.12.1/kernel/"
	files := []tarFile{
		debFile("./boot/vmlinuz-6.12.1", "kernel"),
		debFile("./boot/System.map-6.12.1", "map"),
		debFile("./lib/modules/6.12.1/modules.builtin", "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_pci.ko\n"),
		debFile(dir+"a.ko", "module a"),
		debFile(dir+"drivers/md/dm-mod.ko.xz", string(compress(t, ".xz", []byte("module dm")))),
		debFile(dir+"b.ko.zst", string(compress(t, ".zst", []byte("module b")))),
		debFile(dir+"unused.ko", "unused"),
	}
	k, err := KernelFromDeb(bytes.NewReader(makeDeb(t, ".xz", files...)), []string{"dm-mod", "virtio_pci", "b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range k.Modules {
		b, err := m.Content.readAll(100)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Name+"="+string(b))
	}
	image, _ := k.Image.readAll(100)
	if want := "dm-mod.ko=module dm b.ko=module b a.ko=module a"; strings.Join(got, " ") != want || k.Release != "6.12.1" || string(image) != "kernel" {
		t.Errorf("release %q, kernel %q, modules %q", k.Release, image, got)
	}
	zeros := string(compress(t, ".zst", make([]byte, maxModuleBytes)))
	for name, c := range map[string]struct {
		files   []tarFile
		modules []string
		want    string
	}{
		"no kernel":      {files[1:], nil, "holds no /boot/vmlinuz-*"},
		"two kernels":    {append(files, debFile("./boot/vmlinuz-6.12.2", "")), nil, "two kernels"},
		"missing module": {files, []string{"a", "c"}, `no module "c"`},
		"asked twice":    {files, []string{"a", "a"}, "asked for twice"},
		"module twice":   {append(files, debFile(dir+"other/a.ko", "")), []string{"a"}, "twice"},
		"a bomb":         {append(files, debFile(dir+"x.ko.zst", zeros), debFile(dir+"y.ko.zst", zeros), debFile(dir+"z.ko.zst", zeros)), []string{"x", "y", "z"}, "expand to more"},
		"broken module":  {append(files, debFile(dir+"x.ko.xz", "not xz, and long enough to be looked at")), []string{"x"}, "expanding"},
	} {
		if _, err := KernelFromDeb(bytes.NewReader(makeDeb(t, "", c.files...)), c.modules); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := StubFromDeb(bytes.NewReader(makeDeb(t, "", files...))); err == nil {
		t.Error("a stub was found where none is")
	}
	c, err := StubFromDeb(bytes.NewReader(makeDeb(t, "", debFile("./"+StubPath, "stub"))))
	if err != nil || c.Size() != 4 {
		t.Errorf("stub: %d bytes, %v", c.Size(), err)
	}
}

func FuzzReadDeb(f *testing.F) {
	for _, kind := range []string{"", ".gz", ".xz", ".zst"} {
		f.Add(makeDeb(f, kind, debFile("./a", "one"), tarFile{tar.Header{Name: "./b", Typeflag: tar.TypeSymlink, Linkname: "a"}, ""}))
	}
	f.Fuzz(func(t *testing.T, deb []byte) {
		if control, err := ControlOfDeb(bytes.NewReader(deb)); err == nil && (control == "" || len(control) > maxControlFile) {
			t.Errorf("a control file of %d bytes", len(control))
		}
		_ = ReadDeb(bytes.NewReader(deb), func(e Entry, size int64, content io.Reader) error {
			if !fs.ValidPath(e.Path) {
				t.Errorf("path %q", e.Path)
			}
			n, err := io.Copy(io.Discard, io.LimitReader(content, 1<<20))
			if err == nil && n < min(size, 1<<20) {
				t.Errorf("%s: %d of %d bytes and no error", e.Path, n, size)
			}
			return err
		})
	})
}
