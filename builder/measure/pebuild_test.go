package measure

import (
	"encoding/binary"
	"testing"
)

// testSection is a section of a PE file that a test builds.
type testSection struct {
	name    string
	content []byte
}

const (
	testPEOffset  = 0x40
	testHeaders   = 0x400
	testAlignment = 0x200
	// Where the fields that tests break lie.
	testOptional     = testPEOffset + 24
	testChecksum     = testOptional + 64
	testHeaderSize   = testOptional + 60
	testDirectories  = testOptional + 108
	testSecurity     = testOptional + 112 + 32
	testSectionTable = testOptional + 112 + 16*8
)

// buildPE makes an x86-64 PE32+ image as a UKI builder does: sections follow
// one another, VirtualSize is exact, raw sizes are padded.
func buildPE(sections ...testSection) []byte {
	b := make([]byte, testHeaders)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], testPEOffset)
	copy(b[testPEOffset:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[testPEOffset+4:], 0x8664)
	binary.LittleEndian.PutUint16(b[testPEOffset+6:], uint16(len(sections)))
	binary.LittleEndian.PutUint16(b[testPEOffset+20:], 112+16*8)
	binary.LittleEndian.PutUint16(b[testPEOffset+22:], 0x0022)
	binary.LittleEndian.PutUint16(b[testOptional:], 0x20b)
	binary.LittleEndian.PutUint32(b[testOptional+32:], testAlignment)
	binary.LittleEndian.PutUint32(b[testOptional+36:], testAlignment)
	binary.LittleEndian.PutUint32(b[testHeaderSize:], testHeaders)
	binary.LittleEndian.PutUint32(b[testChecksum:], 0xdecafbad)
	binary.LittleEndian.PutUint16(b[testOptional+68:], 10) // EFI application
	binary.LittleEndian.PutUint32(b[testDirectories:], 16)
	address := uint32(0x1000)
	for i, s := range sections {
		padded := (len(s.content) + testAlignment - 1) &^ (testAlignment - 1)
		entry := b[testSectionTable+i*40:]
		copy(entry[:8], s.name)
		binary.LittleEndian.PutUint32(entry[8:], uint32(len(s.content)))
		binary.LittleEndian.PutUint32(entry[12:], address)
		binary.LittleEndian.PutUint32(entry[16:], uint32(padded))
		binary.LittleEndian.PutUint32(entry[20:], uint32(len(b)))
		binary.LittleEndian.PutUint32(entry[36:], 0x40000040)
		address += uint32(padded) + 0x1000
		b = append(b, s.content...)
		b = append(b, make([]byte, padded-len(s.content))...)
	}
	binary.LittleEndian.PutUint32(b[testOptional+56:], address)
	return b
}

// buildKernel makes a PE file with the parts of a bzImage's setup header that
// are read.
func buildKernel(version string) []byte {
	setup := make([]byte, 0x800)
	b := buildPE(testSection{".setup", setup}, testSection{".text", []byte("the kernel")})
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], testHeaders+0x10-0x200)
	copy(b[testHeaders+0x10:], version+" (somebody@example) #1 SMP")
	return b
}

const testStub = "#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\x00"

// buildUKI makes a UKI with the sections that a test wants to have changed.
func buildUKI(kernel []byte, more ...testSection) []byte {
	return buildPE(append([]testSection{
		{".text", []byte("the stub")},
		{".sdmagic", []byte(testStub)},
		{".linux", kernel},
	}, more...)...)
}

// broken returns a copy of b with the bytes at offset replaced.
func broken(b []byte, offset int, with ...byte) []byte {
	c := append([]byte(nil), b...)
	copy(c[offset:], with)
	return c
}

func le16(n uint16) []byte { return binary.LittleEndian.AppendUint16(nil, n) }
func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
func le64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func TestBuiltImagesParse(t *testing.T) {
	u, err := parseUKI(reader(buildUKI(buildKernel("6.1.0-1-amd64"), testSection{".cmdline", []byte("a")})))
	if err != nil {
		t.Fatal(err)
	}
	if major, minor, ok := kernelVersion(u.sections[".linux"]); major != 6 || minor != 1 || !ok {
		t.Errorf("kernel version is %d.%d (%v), want 6.1", major, minor, ok)
	}
	if got, err := u.small(".cmdline"); err != nil || string(got) != "a" {
		t.Errorf("command line is %q (%v)", got, err)
	}
}
