// Package simulated makes a firmware image that has the shape of an OVMF built
// from EDK2's OvmfPkg/AmdSev: a GUIDed footer table with the SEV-ES reset block,
// the page for the hashes of kernel, initrd and command line, and the SEV-SNP
// metadata. It stands in where no such OVMF can be had, so that a kernel, an
// initrd and a command line can be measured as SEV-SNP hardware would measure
// them.
//
// It can never boot: its code halts the processor. Evidence over it proves
// nothing about a machine, and a verifier must call whatever reports it
// simulated.
package simulated

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

const (
	pageSize = 4096
	// size is far below a real OVMF's 4 MiB: there is no code to hold.
	size = 16 * pageSize

	// tableEnd is where the GUIDed table ends; the 32 bytes after it belong to
	// the reset vector.
	tableEnd = size - 32
	// metadataOffset is where the SEV metadata lies, counted from the beginning.
	metadataOffset = size - 0x400
)

// Notice is the text at the beginning of the image.
const Notice = "Vitrine simulated firmware: has the tables of an OVMF for AMD SEV-SNP and no code. It never boots.\n"

// section is a piece of guest memory that the firmware asks the VMM for.
type section struct{ gpa, size, kind uint32 }

// The memory map is the one of OvmfPkg/AmdSev in edk2-stable202405.
const (
	hashesPage  = 0x810000
	hashesTable = hashesPage + 0xc00
	hashesSize  = 0x400
	apStart     = 0x80b004
)

var sections = []section{
	{0x800000, 0x9000, 1},    // page tables and the like
	{0x80a000, 0x3000, 1},    // GHCB backup, SEC stack
	{0x80d000, 0x1000, 2},    // secrets page
	{0x80e000, 0x1000, 3},    // CPUID page
	{0x80f000, 0x1000, 4},    // SVSM calling area
	{hashesPage, 0x1000, 16}, // kernel hashes
	{0x811000, 0xf000, 1},    // PEI memory
}

// Firmware returns the image, the same bytes at every call: 64 KiB that a VMM
// would map just below 4 GiB.
func Firmware() []byte {
	b := make([]byte, size)
	copy(b, Notice)
	copy(b[metadataOffset:], metadata())
	copy(b[tableEnd-len(table()):], table())
	// The reset vector, 16 bytes before the end: cli; hlt; jmp back.
	copy(b[size-16:], []byte{0xfa, 0xf4, 0xeb, 0xfc})
	return b
}

// metadata is the SEV metadata (EDK2, OvmfPkg/ResetVector/X64/
// OvmfSevMetadata.asm): signature, length, version, count, descriptors.
func metadata() []byte {
	b := []byte("ASEV")
	b = binary.LittleEndian.AppendUint32(b, uint32(16+12*len(sections)))
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sections)))
	for _, s := range sections {
		b = binary.LittleEndian.AppendUint32(b, s.gpa)
		b = binary.LittleEndian.AppendUint32(b, s.size)
		b = binary.LittleEndian.AppendUint32(b, s.kind)
	}
	return b
}

// table is the GUIDed table (EDK2, OvmfPkg/ResetVector/Ia16/
// ResetVectorVtf0.asm), read from its end: the footer, whose length is the
// whole table's, comes last.
func table() []byte {
	word := func(values ...uint32) []byte {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	var b []byte
	b = append(b, entry("dc886566-984a-4798-a75e-5585a7bf67cc", word(size-metadataOffset))...)
	b = append(b, entry("7255371f-3a3b-4b04-927b-1da6efa8d454", word(hashesTable, hashesSize))...)
	b = append(b, entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", word(apStart))...)
	const footer = 2 + 16
	b = binary.LittleEndian.AppendUint16(b, uint16(len(b)+footer))
	return append(b, guid("96b582de-1fb2-45f7-baea-a366c55a082d")...)
}

// entry is data, the length of the whole entry, and its GUID.
func entry(id string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint16(data, uint16(len(data)+2+16))
	return append(b, guid(id)...)
}

// guid encodes the usual notation in the mixed-endian form of UEFI.
func guid(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		panic("simulated: malformed GUID " + s)
	}
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5] = b[5], b[4]
	b[6], b[7] = b[7], b[6]
	return b
}
