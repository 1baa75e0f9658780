package measure

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of what is accepted as a PE file. UEFI images stay far below them;
// they exist so that a hostile header costs nothing.
const (
	// maxPEHeaders is the largest header block (DOS stub, PE headers and
	// section table).
	maxPEHeaders = 1 << 20
	// maxPESections is the limit of the Windows loader.
	maxPESections = 96
	// maxPESize is the largest PE file; the certificate table and the section
	// table hold 32-bit offsets.
	maxPESize = 1<<32 - 1
)

// peFile is an x86-64 PE32+ image, parsed as strictly as an attester's
// reference values need: every byte of the file belongs to exactly one of
// headers, one section, the trailing data or the certificate table. Where two
// parsers could disagree about what is hashed, the file is refused. debug/pe is
// laxer: it accepts overlapping sections and sections outside the file.
type peFile struct {
	file *io.SectionReader
	// headers is everything before the first section (SizeOfHeaders bytes).
	headers []byte
	// checksumOffset is where the optional header's CheckSum lies.
	checksumOffset int
	// securityOffset is where the data directory's certificate table entry
	// lies, or -1 where the directory is too short to have it.
	securityOffset int
	// certificates are the last bytes of the file; size 0 for an unsigned one.
	certificates extent
	sections     []peSection
}

// extent is a range of a file in bytes.
type extent struct{ offset, size int64 }

func (e extent) end() int64 { return e.offset + e.size }

type peSection struct {
	name string
	// memory is where the loader puts it, relative to the image base. Its size
	// is for the sections of a UKI the exact length of the content.
	memory extent
	// raw is where it lies in the file, padding included.
	raw extent
}

// parsePE parses headers and section table (Microsoft PE Format, "COFF File
// Header", "Optional Header", "Section Table").
func parsePE(file *io.SectionReader) (*peFile, error) {
	if file.Size() > maxPESize {
		return nil, fmt.Errorf("the PE file is %d bytes long, and at most %d are possible", file.Size(), int64(maxPESize))
	}
	dos, err := readAt(file, 0, 64, "the DOS header")
	if err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, fmt.Errorf("no PE file: the DOS header at offset 0 does not begin with MZ")
	}
	peOffset := int64(binary.LittleEndian.Uint32(dos[60:]))
	if peOffset%4 != 0 || peOffset > maxPEHeaders {
		return nil, fmt.Errorf("the DOS header points to a PE header at offset %#x, which is unaligned or out of range", peOffset)
	}
	// Signature, COFF header, and the optional header's fixed part.
	const coffLength, fixedLength = 4 + 20, 112
	coff, err := readAt(file, peOffset, coffLength+fixedLength, "the PE header")
	if err != nil {
		return nil, err
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("the PE header at offset %#x does not begin with its signature", peOffset)
	}
	if machine := binary.LittleEndian.Uint16(coff[4:]); machine != 0x8664 {
		return nil, fmt.Errorf("the PE header at offset %#x is for machine %#x, and only x86-64 (0x8664) is understood", peOffset, machine)
	}
	sectionCount := int64(binary.LittleEndian.Uint16(coff[6:]))
	if sectionCount == 0 || sectionCount > maxPESections {
		return nil, fmt.Errorf("the PE header at offset %#x counts %d sections, and 1 to %d are possible", peOffset, sectionCount, maxPESections)
	}
	optionalLength := int64(binary.LittleEndian.Uint16(coff[20:]))
	optional := coff[coffLength:]
	optionalOffset := peOffset + coffLength
	if magic := binary.LittleEndian.Uint16(optional); magic != 0x20b {
		return nil, fmt.Errorf("the optional header at offset %#x has magic %#x, and only PE32+ (0x20b) is understood", optionalOffset, magic)
	}
	directories := int64(binary.LittleEndian.Uint32(optional[108:]))
	if directories > 16 || fixedLength+directories*8 > optionalLength {
		return nil, fmt.Errorf("the optional header at offset %#x is %d bytes long and counts %d data directories, which do not fit", optionalOffset, optionalLength, directories)
	}
	headersLength := int64(binary.LittleEndian.Uint32(optional[60:]))
	tableOffset := optionalOffset + optionalLength
	if headersLength > maxPEHeaders || tableOffset+sectionCount*40 > headersLength {
		return nil, fmt.Errorf("the section table at offset %#x with %d entries does not fit into headers of %d bytes", tableOffset, sectionCount, headersLength)
	}
	headers, err := readAt(file, 0, headersLength, "the PE headers")
	if err != nil {
		return nil, err
	}
	f := &peFile{
		file:           file,
		headers:        headers,
		checksumOffset: int(optionalOffset) + 64,
		securityOffset: -1,
		certificates:   extent{file.Size(), 0},
	}
	// The certificate table is the fifth data directory, and the only one whose
	// address is a file offset.
	if directories > 4 {
		f.securityOffset = int(optionalOffset) + fixedLength + 4*8
		entry := headers[f.securityOffset:]
		table := extent{int64(binary.LittleEndian.Uint32(entry)), int64(binary.LittleEndian.Uint32(entry[4:]))}
		if table != (extent{}) {
			if table.size == 0 || table.end() != file.Size() {
				return nil, fmt.Errorf("the certificate table at offset %#x, %d bytes long, does not end with the file at %#x", table.offset, table.size, file.Size())
			}
			f.certificates = table
		}
	}
	for i := range sectionCount {
		s, err := parseSection(headers[tableOffset+i*40:], tableOffset+i*40)
		if err != nil {
			return nil, err
		}
		f.sections = append(f.sections, s)
	}
	return f, f.checkLayout()
}

func parseSection(entry []byte, offset int64) (peSection, error) {
	name, padding, _ := strings.Cut(string(entry[:8]), "\x00")
	if strings.Trim(padding, "\x00") != "" {
		return peSection{}, fmt.Errorf("the section table entry at offset %#x has bytes after the end of its name", offset)
	}
	s := peSection{
		name: name,
		memory: extent{
			offset: int64(binary.LittleEndian.Uint32(entry[12:])),
			size:   int64(binary.LittleEndian.Uint32(entry[8:])),
		},
		raw: extent{
			offset: int64(binary.LittleEndian.Uint32(entry[20:])),
			size:   int64(binary.LittleEndian.Uint32(entry[16:])),
		},
	}
	return s, nil
}

// checkLayout makes sure that headers, sections, trailing data and
// certificates follow one another without gap or overlap. EDK2, the Windows
// loader and signing tools hash the same bytes only then.
func (f *peFile) checkLayout() error {
	at := int64(len(f.headers))
	for _, s := range f.inFileOrder() {
		if s.raw.offset != at {
			return fmt.Errorf("section %q begins at file offset %#x where %#x was expected: sections may neither overlap nor leave a gap", s.name, s.raw.offset, at)
		}
		at = s.raw.end()
		if at > f.file.Size() {
			return fmt.Errorf("section %q ends at file offset %#x, beyond the file's end at %#x", s.name, at, f.file.Size())
		}
	}
	if f.certificates.offset < at {
		return fmt.Errorf("the certificate table at offset %#x overlaps what ends at %#x", f.certificates.offset, at)
	}
	// In memory gaps are normal, but an overlap would mean that what a stub
	// measures is not what the file holds.
	inMemory := slices.Clone(f.sections)
	slices.SortStableFunc(inMemory, func(a, b peSection) int { return cmp.Compare(a.memory.offset, b.memory.offset) })
	at = int64(len(f.headers))
	for _, s := range inMemory {
		if s.memory.offset < at {
			return fmt.Errorf("section %q at address %#x overlaps in memory what ends at %#x", s.name, s.memory.offset, at)
		}
		at = s.memory.end()
	}
	return nil
}

// inFileOrder returns the sections that have bytes in the file, by offset.
func (f *peFile) inFileOrder() []peSection {
	sections := slices.DeleteFunc(slices.Clone(f.sections), func(s peSection) bool { return s.raw.size == 0 })
	slices.SortStableFunc(sections, func(a, b peSection) int { return cmp.Compare(a.raw.offset, b.raw.offset) })
	return sections
}

// content returns a section's bytes as they are in memory, without the padding
// that follows in the file.
func (f *peFile) content(s peSection) (*io.SectionReader, error) {
	if s.memory.size > s.raw.size {
		return nil, fmt.Errorf("section %q has %d bytes in memory and only %d in the file: it was not written as a payload", s.name, s.memory.size, s.raw.size)
	}
	return io.NewSectionReader(f.file, s.raw.offset, s.memory.size), nil
}
