package measure

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	pageSize = 4096
	fourGiB  = 1 << 32
	// maxFirmwareSize is what QEMU maps below 4 GiB at the most.
	maxFirmwareSize = 16 << 20
	// maxMetadataSections is several times what OVMF has.
	maxMetadataSections = 256
)

// GUIDs of the table at the end of OVMF and of Coconut SVSM
// (EDK2, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm).
var (
	guidTableFooter   = mustGUID("96b582de-1fb2-45f7-baea-a366c55a082d")
	guidSEVHashTable  = mustGUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
	guidSEVESReset    = mustGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	guidSEVMetadata   = mustGUID("dc886566-984a-4798-a75e-5585a7bf67cc")
	guidSVSMInfo      = mustGUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
	metadataSignature = "ASEV"
)

// firmware is an image that the VMM puts into guest memory before the launch:
// OVMF, ending at 4 GiB, or an SVSM below it.
type firmware struct {
	data []byte
	// gpa is the guest physical address of its first byte.
	gpa uint64
	// table holds the data of the entries of its GUIDed table.
	table map[guid][]byte
	// sections are those of its SEV metadata, in the file's order.
	sections []metadataSection
}

// metadataSection is memory that the VMM has to hand to the guest in a certain
// way (EDK2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
type metadataSection struct {
	kind sectionKind
	gpa  uint64
	size uint64
}

type sectionKind uint32

const (
	sectionMemory       sectionKind = 1
	sectionSecrets      sectionKind = 2
	sectionCPUID        sectionKind = 3
	sectionSVSMCAA      sectionKind = 4
	sectionKernelHashes sectionKind = 0x10
)

func (k sectionKind) String() string {
	switch k {
	case sectionMemory:
		return "memory"
	case sectionSecrets:
		return "secrets"
	case sectionCPUID:
		return "CPUID"
	case sectionSVSMCAA:
		return "SVSM calling area"
	case sectionKernelHashes:
		return "kernel hashes"
	}
	return fmt.Sprintf("unknown (%#x)", uint32(k))
}

// parseFirmware reads an image whose last byte lies just below the guest
// physical address end.
func parseFirmware(file *io.SectionReader, end uint64) (*firmware, error) {
	size := file.Size()
	if size == 0 || size%pageSize != 0 || size > maxFirmwareSize || uint64(size) > end {
		return nil, fmt.Errorf("the file is %d bytes long, and it has to be whole pages of %d bytes, at most %d bytes in all, below address %#x", size, pageSize, maxFirmwareSize, end)
	}
	data, err := readAt(file, 0, size, "the firmware")
	if err != nil {
		return nil, err
	}
	f := &firmware{data: data, gpa: end - uint64(size)}
	if f.table, err = parseGUIDTable(data); err != nil {
		return nil, err
	}
	if f.sections, err = parseMetadata(data, f.table); err != nil {
		return nil, err
	}
	return f, f.checkSections()
}

// parseGUIDTable reads the table that ends 32 bytes before the end of the file
// and is read backwards: each entry is its data, a 16-bit length of the whole
// entry, and a GUID. The last entry is the footer, whose length is that of the
// table. An image without footer has no table.
func parseGUIDTable(data []byte) (map[guid][]byte, error) {
	const tail, entryHeader = 32, 2 + 16
	table := make(map[guid][]byte)
	if len(data) < tail+entryHeader {
		return table, nil
	}
	end := len(data) - tail
	id, length, err := tableEntry(data[:end])
	if id != guidTableFooter {
		return table, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the GUIDed table that ends at offset %#x: %w", end, err)
	}
	rest := data[end-length : end-entryHeader]
	for len(rest) > 0 {
		at := end - length + len(rest)
		id, entryLength, err := tableEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("the GUIDed table's entry that ends at offset %#x: %w", at, err)
		}
		if _, twice := table[id]; twice {
			return nil, fmt.Errorf("the GUIDed table's entry that ends at offset %#x has the GUID of another entry", at)
		}
		table[id] = rest[len(rest)-entryLength : len(rest)-entryHeader]
		rest = rest[:len(rest)-entryLength]
	}
	return table, nil
}

// tableEntry reads the GUID and the length of the entry at the end of b.
func tableEntry(b []byte) (guid, int, error) {
	const entryHeader = 2 + 16
	if len(b) < entryHeader {
		return guid{}, 0, fmt.Errorf("%d bytes are left, too few for an entry", len(b))
	}
	id := guid(b[len(b)-16:])
	length := int(binary.LittleEndian.Uint16(b[len(b)-entryHeader:]))
	if length < entryHeader || length > len(b) {
		return id, length, fmt.Errorf("it says it is %d bytes long, and %d to %d are possible", length, entryHeader, len(b))
	}
	return id, length, nil
}

// parseMetadata reads the SEV metadata, whose place the table gives as an
// offset from the end of the file. An image without it has no sections.
func parseMetadata(data []byte, table map[guid][]byte) ([]metadataSection, error) {
	entry, there := table[guidSEVMetadata]
	if !there {
		return nil, nil
	}
	if len(entry) != 4 {
		return nil, fmt.Errorf("the table's entry for the SEV metadata has %d bytes, not 4", len(entry))
	}
	const header, descriptor = 16, 12
	fromEnd := binary.LittleEndian.Uint32(entry)
	if fromEnd < header || uint64(fromEnd) > uint64(len(data)) {
		return nil, fmt.Errorf("the SEV metadata is said to lie %#x bytes before the end of a file of %#x bytes", fromEnd, len(data))
	}
	at := len(data) - int(fromEnd)
	b := data[at:]
	if string(b[:4]) != metadataSignature {
		return nil, fmt.Errorf("the SEV metadata at offset %#x does not begin with %s", at, metadataSignature)
	}
	length := binary.LittleEndian.Uint32(b[4:])
	version := binary.LittleEndian.Uint32(b[8:])
	count := binary.LittleEndian.Uint32(b[12:])
	if version != 1 {
		return nil, fmt.Errorf("the SEV metadata at offset %#x has version %d, and only 1 is known", at, version)
	}
	if count > maxMetadataSections || length != header+count*descriptor || uint64(length) > uint64(len(b)) {
		return nil, fmt.Errorf("the SEV metadata at offset %#x counts %d sections in %d bytes, which do not fit", at, count, length)
	}
	var sections []metadataSection
	for d := range slices.Chunk(b[header:length], descriptor) {
		sections = append(sections, metadataSection{
			gpa:  uint64(binary.LittleEndian.Uint32(d)),
			size: uint64(binary.LittleEndian.Uint32(d[4:])),
			kind: sectionKind(binary.LittleEndian.Uint32(d[8:])),
		})
	}
	return sections, nil
}

// checkSections makes sure that every page is launched once: the hardware
// refuses a second time, and a hostile image could otherwise ask for
// measurements without end.
func (f *firmware) checkSections() error {
	sorted := slices.Clone(f.sections)
	slices.SortFunc(sorted, func(a, b metadataSection) int { return cmp.Compare(a.gpa, b.gpa) })
	var at uint64
	for _, s := range sorted {
		switch s.kind {
		case sectionMemory, sectionSVSMCAA:
		case sectionSecrets, sectionCPUID, sectionKernelHashes:
			if s.size != pageSize {
				return fmt.Errorf("the metadata section %s at address %#x is %d bytes long, not one page", s.kind, s.gpa, s.size)
			}
		default:
			return fmt.Errorf("the metadata section at address %#x is of %s kind", s.gpa, s.kind)
		}
		if s.gpa%pageSize != 0 || s.size%pageSize != 0 || s.size == 0 {
			return fmt.Errorf("the metadata section %s at address %#x, %d bytes long, is not made of whole pages", s.kind, s.gpa, s.size)
		}
		if s.gpa < at {
			return fmt.Errorf("the metadata section %s at address %#x overlaps another, which ends at %#x", s.kind, s.gpa, at)
		}
		at = s.gpa + s.size
		if s.gpa < f.gpa+uint64(len(f.data)) && at > f.gpa || at > fourGiB {
			return fmt.Errorf("the metadata section %s at address %#x, %d bytes long, overlaps the image itself or ends above 4 GiB", s.kind, s.gpa, s.size)
		}
	}
	return nil
}

// address returns the 32-bit number that an entry of the table begins with.
func (f *firmware) address(id guid, what string) (uint32, error) {
	entry, there := f.table[id]
	if !there {
		return 0, fmt.Errorf("the image's GUIDed table has no entry for the %s", what)
	}
	if len(entry) < 4 {
		return 0, fmt.Errorf("the table's entry for the %s has %d bytes, too few for an address", what, len(entry))
	}
	return binary.LittleEndian.Uint32(entry), nil
}

// hashesTable returns where the firmware expects the table of kernel hashes
// from the VMM: the address and the length of the reserved area. ok is false
// for a firmware that does not check a kernel.
func (f *firmware) hashesTable() (gpa, size uint64, ok bool, err error) {
	entry, there := f.table[guidSEVHashTable]
	if !there {
		return 0, 0, false, nil
	}
	if len(entry) != 8 {
		return 0, 0, false, fmt.Errorf("the table's entry for the kernel hashes has %d bytes, not 8", len(entry))
	}
	gpa = uint64(binary.LittleEndian.Uint32(entry))
	size = uint64(binary.LittleEndian.Uint32(entry[4:]))
	if gpa == 0 || size == 0 { // what an OVMF that is not AmdSevX64 says
		return 0, 0, false, nil
	}
	if size < hashTableLength {
		return 0, 0, false, fmt.Errorf("the area for kernel hashes at address %#x has %d bytes, too few for a table of %d", gpa, size, hashTableLength)
	}
	return gpa, size, true, nil
}
