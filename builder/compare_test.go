package builder

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// digestFor gives each letter a digest of its own.
func digestFor(letter byte) string {
	return strings.Repeat(fmt.Sprintf("%02x", letter), 32)
}

// madeUp is a manifest in which every digest is that of a letter.
func madeUp(root, initrd, kernel byte, files ...File) *Manifest {
	artefact := func(name string, of ...byte) Artefact {
		return Artefact{name, statement.DigestOf(of).SHA256, 1}
	}
	m := &Manifest{Format: ManifestFormat, Product: "p", Version: "1", Recipe: digestFor('r'), Lock: digestFor('l'), CommandLine: "quiet", Volumes: []Volume{}, Files: files}
	m.Artefacts = []Artefact{
		artefact("cmdline", 'c'),
		artefact("disk.img", root, initrd, kernel),
		artefact("initrd.cpio", initrd, root),
		artefact("root.erofs", root),
		artefact("root.verity", root, 'v'),
		artefact("uki.efi", root, initrd, kernel, 'u'),
		artefact("vmlinuz", kernel),
	}
	return m
}

func TestCompare(t *testing.T) {
	file := func(artefact, path string, letter byte) File {
		return File{Artefact: artefact, Path: path, Mode: "-rw-r--r--", SHA256: digestFor(letter)}
	}
	inRoot := func(path string, letter byte) File { return file("root.erofs", path, letter) }
	inInitrd := func(path string, letter byte) File { return file("initrd.cpio", path, letter) }
	const volumes = "etc/vitrine/volumes.json"
	open := inRoot("server", 's')
	open.Mode = "urwxr-xr-x"
	for name, c := range map[string]struct {
		a, b      *Manifest
		artefacts []string // with what they follow from
		causes    []string
	}{
		"the same": {madeUp('1', '1', '1', inRoot("server", 's')), madeUp('1', '1', '1', inRoot("server", 's')), nil, nil},
		"a file of the root": {
			madeUp('1', '1', '1', inRoot("a", 'a'), inRoot("server", 's'), inInitrd(volumes, 'v'), inInitrd("init", 'i')),
			madeUp('2', '1', '1', inRoot("a", 'a'), inRoot("server", 't'), inInitrd(volumes, 'w'), inInitrd("init", 'i')),
			[]string{"root.erofs", "disk.img < root.erofs uki.efi", "initrd.cpio < root.erofs", "root.verity < root.erofs", "uki.efi < initrd.cpio"},
			[]string{"root.erofs: server"},
		},
		"only the mode of it": {
			madeUp('1', '1', '1', inRoot("server", 's')), madeUp('2', '1', '1', open),
			[]string{"root.erofs", "disk.img < root.erofs uki.efi", "initrd.cpio < root.erofs", "root.verity < root.erofs", "uki.efi < initrd.cpio"},
			[]string{"root.erofs: server"},
		},
		"the initrd, too": {
			madeUp('1', '1', '1', inRoot("server", 's'), inInitrd(volumes, 'v'), inInitrd("init", 'i')),
			madeUp('2', '2', '1', inRoot("server", 't'), inInitrd(volumes, 'w'), inInitrd("init", 'j')),
			[]string{"initrd.cpio", "root.erofs", "disk.img < root.erofs uki.efi", "root.verity < root.erofs", "uki.efi < initrd.cpio"},
			[]string{"initrd.cpio: init", "root.erofs: server"},
		},
		"a file more, one less": {
			madeUp('1', '1', '1', inRoot("old", 'o')), madeUp('2', '1', '1', inRoot("new", 'n')),
			[]string{"root.erofs", "disk.img < root.erofs uki.efi", "initrd.cpio < root.erofs", "root.verity < root.erofs", "uki.efi < initrd.cpio"},
			[]string{"root.erofs: new", "root.erofs: old"},
		},
		"the kernel": {
			madeUp('1', '1', '1', inRoot("server", 's')), madeUp('1', '1', '2', inRoot("server", 's')),
			[]string{"vmlinuz", "disk.img < uki.efi", "uki.efi < vmlinuz"},
			[]string{"vmlinuz"},
		},
		"the root, files unknown": {
			madeUp('1', '1', '1'), madeUp('2', '1', '1', inRoot("server", 's')),
			[]string{"root.erofs", "disk.img < root.erofs uki.efi", "initrd.cpio < root.erofs", "root.verity < root.erofs", "uki.efi < initrd.cpio"},
			[]string{"root.erofs"},
		},
		"what is made of equal parts": {
			madeUp('1', '1', '1'), func() *Manifest {
				m := madeUp('1', '1', '1')
				m.Artefacts[5].SHA256 = digestFor('x')
				return m
			}(),
			[]string{"uki.efi"},
			[]string{"uki.efi"},
		},
		"an artefact less": {
			madeUp('1', '1', '1'), func() *Manifest {
				m := madeUp('1', '1', '1')
				m.Artefacts = m.Artefacts[1:]
				return m
			}(),
			[]string{"cmdline"},
			[]string{"cmdline"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			differences := Compare(c.a, c.b)
			var got []string
			for _, d := range differences {
				line := d.Artefact
				if len(d.Follows) > 0 {
					line += " < " + strings.Join(d.Follows, " ")
				}
				got = append(got, line)
				if d.Published == d.Rebuilt || strings.Contains(d.String(), "\n") {
					t.Errorf("the difference %q is none", d)
				}
				for _, f := range d.Files {
					if f.Published == f.Rebuilt {
						t.Errorf("the difference %+v is none", f)
					}
				}
			}
			if !slices.Equal(got, c.artefacts) {
				t.Errorf("artefacts\n%q, want\n%q", got, c.artefacts)
			}
			if got := Causes(differences); !slices.Equal(got, c.causes) {
				t.Errorf("causes %q, want %q", got, c.causes)
			}
			// The other way round, the same artefacts differ.
			if back := Compare(c.b, c.a); len(back) != len(differences) {
				t.Errorf("the other way round: %v", back)
			}
		})
	}
}

func TestShow(t *testing.T) {
	link := func(to string) File { return File{Mode: "Lrwxrwxrwx", Target: to} }
	one := File{Mode: "-rw-r--r--", UID: 1, GID: 2, SHA256: digestFor('a')}
	for name, c := range map[string]struct {
		a, b File
		want [2]string
	}{
		"owner":        {one, File{Mode: "-rw-r--r--", GID: 2, SHA256: digestFor('a')}, [2]string{"-rw-r--r-- 1:2", "-rw-r--r-- 0:2"}},
		"content":      {one, File{Mode: "-rw-r--r--", SHA256: digestFor('b')}, [2]string{digestFor('a'), digestFor('b')}},
		"target":       {link("a"), link("b"), [2]string{"-> a", "-> b"}},
		"kind":         {one, link("b"), [2]string{digestFor('a'), "-> b"}},
		"file, folder": {one, File{Mode: "drwxr-xr-x"}, [2]string{digestFor('a'), "drwxr-xr-x 0:0"}},
	} {
		a, b := map[string]File{"x": c.a}, map[string]File{"x": c.b}
		if got := [2]string{show(a, b, "x"), show(b, a, "x")}; got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestManifestRoundTrip(t *testing.T) {
	m := madeUp('1', '2', '3', File{Artefact: "root.erofs", Path: "a", Mode: "-rw-r--r--", SHA256: digestFor('a'), Size: 5})
	m.Volumes = []Volume{{"root", digestFor('v'), 4096}}
	text, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseManifest(text)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Fatalf("got %+v, %v, want %+v", again, err, m)
	}
	for name, c := range map[string][2]string{
		"another format":  {"manifest/v1", "manifest/v2"},
		"unknown member":  {`"files":`, `"filez":[],"files":`},
		"artefact twice":  {`"name": "vmlinuz"`, `"name": "cmdline"`},
		"a path for name": {`"name": "vmlinuz"`, `"name": "../vmlinuz"`},
		"a short digest":  {digestFor('a'), "aa"},
		"a short root":    {digestFor('v'), "aa"},
		"a line break":    {`"path": "a"`, `"path": "a\nb"`},
		"no path":         {`"path": "a"`, `"path": ""`},
		"a negative size": {`"size": 5`, `"size": -5`},
		"a long path":     {`"path": "a"`, `"path": "` + strings.Repeat("a", 4097) + `"`},
		"an escape":       {`"mode": "-rw-r--r--"`, `"mode": "\u001b[2J"`},
	} {
		bad := strings.Replace(string(text), c[0], c[1], 1)
		if bad == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if got, err := ParseManifest([]byte(bad)); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestExplanationFitsIntoALog compares with a manifest that is made to have an
// explanation that no log takes, and so none published.
func TestExplanationFitsIntoALog(t *testing.T) {
	published, rebuilt := madeUp('1', '2', '3'), madeUp('1', '2', '3', File{Artefact: "root.erofs", Path: "a"})
	long := strings.Repeat(`"`, maxShownBytes-8) // each takes two bytes in JSON
	for i := range 30 {
		name := fmt.Sprintf("x%d.erofs", i)
		published.Artefacts = append(published.Artefacts, Artefact{Name: name, SHA256: digestFor('a')})
		for j := range 100 {
			published.Files = append(published.Files, File{Artefact: name, Path: fmt.Sprint(j, long), Target: long, Mode: "Lrwxrwxrwx"})
		}
	}
	differences := Compare(published, rebuilt)
	b, err := Explain(rebuilt, differences, nil)
	if err != nil || len(b) > MaxLocalBytes {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if n := strings.Count(string(b), `"rebuilt": "absent"`); n != 30+maxDifferences {
		t.Errorf("%d artefacts and files are listed", n)
	}
}

func FuzzParseManifest(f *testing.F) {
	text, err := madeUp('1', '2', '3', File{Artefact: "root.erofs", Path: "a", Mode: "-rw-r--r--", SHA256: digestFor('a')}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":"` + ManifestFormat + `"}`))
	other := madeUp('1', '1', '1', File{Artefact: "root.erofs", Path: "b", Mode: "-rw-r--r--", SHA256: digestFor('b')})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		// What a stranger wrote is compared and shown.
		differences := Compare(m, other)
		if _, err := Explain(other, differences, nil); err != nil {
			t.Fatalf("%q cannot be explained: %v", b, err)
		}
		for _, c := range Causes(differences) {
			if strings.ContainsAny(c, "\n\x1b") {
				t.Fatalf("%q shows as %q", b, c)
			}
		}
		if _, err := m.Marshal(); err != nil {
			t.Fatalf("%q was read and cannot be written: %v", b, err)
		}
	})
}
