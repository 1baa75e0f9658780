package measure

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// stubMeasured are the sections that systemd-stub measures into PCR 11, in the
// order in which it does so whatever their order in the file
// (systemd v252, src/fundamental/tpm-pcr.c).
var stubMeasured = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}

// stubVersion is the major version of systemd-stub whose measurements are
// known here. Later ones measure more sections, and into other registers.
const stubVersion = 252

// maxSmallSection bounds the sections that are read into memory.
const maxSmallSection = 64 << 10

// uki is a unified kernel image: systemd-stub with a kernel, a command line and
// an initrd as sections (UAPI Group Specification 5).
type uki struct {
	pe       *peFile
	sections map[string]*io.SectionReader
}

// parseUKI finds the sections of a UKI that was made with a stub whose
// behaviour is known.
func parseUKI(file *io.SectionReader) (*uki, error) {
	pe, err := parsePE(file)
	if err != nil {
		return nil, err
	}
	u := &uki{pe: pe, sections: make(map[string]*io.SectionReader)}
	for _, s := range pe.sections {
		if !slices.Contains(stubMeasured, s.name) && s.name != ".sdmagic" && s.name != ".pcrsig" {
			continue
		}
		if _, twice := u.sections[s.name]; twice {
			return nil, fmt.Errorf("there are two sections %q: which one boots depends on who reads the file", s.name)
		}
		content, err := pe.content(s)
		if err != nil {
			return nil, err
		}
		// The stub takes an empty section for an absent one.
		if content.Size() > 0 {
			u.sections[s.name] = content
		}
	}
	if u.sections[".linux"] == nil {
		return nil, fmt.Errorf("there is no section .linux: this PE file is no unified kernel image")
	}
	return u, u.checkStub()
}

// checkStub refuses stubs whose measurements are not known.
func (u *uki) checkStub() error {
	magic, err := u.small(".sdmagic")
	if err != nil {
		return err
	}
	if magic == nil {
		return fmt.Errorf("there is no section .sdmagic to tell the version of systemd-stub; make the image with systemd-stub %d", stubVersion)
	}
	text := strings.TrimRight(string(magic), "\x00")
	version, isStub := strings.CutPrefix(text, "#### LoaderInfo: systemd-stub ")
	major := version
	if i := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		major = version[:i]
	}
	n, err := strconv.Atoi(major)
	if !isStub || err != nil {
		return fmt.Errorf("the section .sdmagic does not hold a version of systemd-stub: %q", text)
	}
	if n != stubVersion {
		return fmt.Errorf("the image was made with systemd-stub %d, and only what version %d measures is known; make it with that version", n, stubVersion)
	}
	return nil
}

// small reads a section that has to be small, and returns nil for an absent
// one.
func (u *uki) small(name string) ([]byte, error) {
	s := u.sections[name]
	if s == nil {
		return nil, nil
	}
	if s.Size() > maxSmallSection {
		return nil, fmt.Errorf("the section %s is %d bytes long, and at most %d are allowed", name, s.Size(), maxSmallSection)
	}
	return readAt(s, 0, s.Size(), "the section "+name)
}

// kernelVersion reads the version out of a bzImage (Linux x86 boot protocol,
// offsets 0x202 and 0x20e); ok is false where the file has none.
func kernelVersion(linux *io.SectionReader) (major, minor int, ok bool) {
	setup, err := readAt(linux, 0, 0x210, "the setup header")
	if err != nil || string(setup[0x202:0x206]) != "HdrS" {
		return 0, 0, false
	}
	at := int64(binary.LittleEndian.Uint16(setup[0x20e:])) + 0x200
	text, err := readAt(linux, at, min(64, max(0, linux.Size()-at)), "the kernel's version")
	if err != nil {
		return 0, 0, false
	}
	first, rest, _ := bytes.Cut(text, []byte("."))
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(string(first))
	minor, err2 := strconv.Atoi(string(rest[:end]))
	return major, minor, err1 == nil && err2 == nil
}

// loadOptions encodes a command line as the stub hands it to the kernel and
// the kernel measures it: UTF-16LE with a terminating NUL. The stub rewrites
// control characters and decodes in its own way what is not ASCII, so such a
// command line has no value here.
func loadOptions(cmdline []byte) ([]byte, error) {
	for i, c := range cmdline {
		if c < 0x20 || c > 0x7e {
			return nil, fmt.Errorf("byte %d of the command line is %#02x, and only printable ASCII reaches the kernel unchanged", i, c)
		}
	}
	return append(utf16le(string(cmdline)), 0, 0), nil
}

// utf16le encodes without a terminator, as UEFI does.
func utf16le(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}
