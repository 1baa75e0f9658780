package measure

import (
	"bytes"
	"strings"
	"testing"
)

func TestRefusedUKIs(t *testing.T) {
	kernel := buildKernel("6.1.0")
	stub := func(magic string) []byte {
		return buildPE(testSection{".sdmagic", []byte(magic)}, testSection{".linux", kernel})
	}
	loose := buildUKI(kernel, testSection{".cmdline", []byte("quiet")})
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"no kernel", buildPE(testSection{".sdmagic", []byte(testStub)}), "no unified kernel image"},
		{"empty kernel", buildUKI(nil), "no unified kernel image"},
		{"no stub version", buildPE(testSection{".linux", kernel}), "no section .sdmagic"},
		{"another stub", stub("#### LoaderInfo: some-stub 252 ####"), "does not hold a version of systemd-stub"},
		{"stub without number", stub("#### LoaderInfo: systemd-stub "), "does not hold a version of systemd-stub"},
		{"absurd version", stub("#### LoaderInfo: systemd-stub 99999999999999999999 ####"), "does not hold a version of systemd-stub"},
		{"newer stub", stub("#### LoaderInfo: systemd-stub 257.5 ####"), "only what version 252 measures is known"},
		{"two command lines", buildUKI(kernel, testSection{".cmdline", []byte("a")}, testSection{".cmdline", []byte("b")}), `two sections ".cmdline"`},
		{"huge magic", stub(testStub + strings.Repeat("\x00", maxSmallSection)), "the section .sdmagic is"},
		// VirtualSize beyond the raw data: zeros that are nowhere in the file.
		{"more in memory", broken(loose, testSectionTable+3*40+8, le32(testAlignment+1)...), "it was not written as a payload"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseUKI(reader(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestKernelVersion(t *testing.T) {
	good := buildKernel("6.12.117+deb12-cloud-amd64")
	for _, test := range []struct {
		name         string
		file         []byte
		major, minor int
		ok           bool
	}{
		{"Debian", good, 6, 12, true},
		{"short", buildKernel("6.1"), 6, 1, true},
		{"no header", broken(good, 0x202, 'X'), 0, 0, false},
		{"too short", good[:0x20f], 0, 0, false},
		{"points outside", broken(good, 0x20e, 0xff, 0xff), 0, 0, false},
		{"no number", buildKernel("six.one"), 0, 0, false},
		{"no minor", buildKernel("6"), 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			major, minor, ok := kernelVersion(reader(test.file))
			if ok != test.ok || ok && (major != test.major || minor != test.minor) {
				t.Errorf("version is %d.%d (%v), want %d.%d (%v)", major, minor, ok, test.major, test.minor, test.ok)
			}
		})
	}
}

func TestLoadOptions(t *testing.T) {
	got, err := loadOptions([]byte("a b"))
	if err != nil || !bytes.Equal(got, []byte("a\x00 \x00b\x00\x00\x00")) {
		t.Errorf("load options are %q (%v)", got, err)
	}
	for _, cmdline := range []string{"quiet\n", "a\x00b", "ü", "\x7f"} {
		if _, err := loadOptions([]byte(cmdline)); err == nil {
			t.Errorf("the command line %q was taken, though the stub changes it", cmdline)
		}
	}
}
