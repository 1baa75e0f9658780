package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// section is one part of a unified kernel image (UAPI.5).
type section struct {
	name    string // at most 8 bytes
	content Content
}

// Offsets in a PE32+ file (Microsoft, "PE Format").
const (
	peOffsetField       = 0x3c
	peCOFFBytes         = 20
	peSectionBytes      = 40
	peMagicPlus         = 0x20b
	peMachineAMD64      = 0x8664
	optSectionAlignment = 32
	optFileAlignment    = 36
	optSizeOfImage      = 56
	optSizeOfHeaders    = 60
	optCheckSum         = 64
	// Initialised data, readable.
	peSectionFlags = 0x40000040
	// Everything has to fit 32-bit addresses with room for the firmware's own
	// arithmetic.
	maxUKIBytes = 1 << 31
)

// writeUKI writes the EFI stub with sections added behind its own. VirtualSize
// is the exact length of the content, because systemd-stub measures that many
// bytes; the raw size is padded to the file's alignment.
//
// The COFF symbol table is dropped (the new sections take its place), and the
// checksum is zero: firmware checks neither.
func writeUKI(w io.Writer, stub []byte, sections []section) error {
	pe, err := parsePE(stub)
	if err != nil {
		return fmt.Errorf("adding sections to the EFI stub: %w", err)
	}
	head := pe.head
	free := pe.table + len(pe.sections)*peSectionBytes
	if free+len(sections)*peSectionBytes > int(pe.sizeOfHeaders) {
		return fmt.Errorf("adding sections to the EFI stub: its headers have room for %d more, not for %d", (int(pe.sizeOfHeaders)-free)/peSectionBytes, len(sections))
	}
	align := func(n, to uint32) uint32 { return (n + to - 1) / to * to }
	address, offset := align(pe.endAddress, pe.sectionAlignment), align(pe.endOffset, pe.fileAlignment)
	rawBegin := offset
	for i, s := range sections {
		if pe.sections[s.name] {
			return fmt.Errorf("adding sections to the EFI stub: it has a section %s already", s.name)
		}
		pe.sections[s.name] = true
		size := s.content.Size()
		if len(s.name) > 8 || size == 0 || int64(address)+size > maxUKIBytes || int64(offset)+size > maxUKIBytes {
			return fmt.Errorf("adding sections to the EFI stub: section %s of %d bytes does not fit", s.name, size)
		}
		raw := align(uint32(size), pe.fileAlignment)
		h := head[free+i*peSectionBytes:][:peSectionBytes]
		clear(h)
		copy(h, s.name)
		binary.LittleEndian.PutUint32(h[8:], uint32(size))
		binary.LittleEndian.PutUint32(h[12:], address)
		binary.LittleEndian.PutUint32(h[16:], raw)
		binary.LittleEndian.PutUint32(h[20:], offset)
		binary.LittleEndian.PutUint32(h[36:], peSectionFlags)
		address = align(address+uint32(size), pe.sectionAlignment)
		offset += raw
	}
	coff, opt := head[pe.coff:], head[pe.coff+peCOFFBytes:]
	binary.LittleEndian.PutUint16(coff[2:], uint16(len(pe.sections)))
	clear(coff[8:16]) // PointerToSymbolTable, NumberOfSymbols
	binary.LittleEndian.PutUint32(opt[optSizeOfImage:], address)
	clear(opt[optCheckSum:][:4])

	if _, err := w.Write(head); err != nil {
		return err
	}
	if _, err := w.Write(stub[len(head):pe.endOffset]); err != nil {
		return err
	}
	if _, err := w.Write(make([]byte, rawBegin-pe.endOffset)); err != nil {
		return err
	}
	for _, s := range sections {
		if _, err := s.content.WriteTo(w); err != nil {
			return fmt.Errorf("adding section %s to the EFI stub: %w", s.name, err)
		}
		size := uint32(s.content.Size())
		if _, err := w.Write(make([]byte, align(size, pe.fileAlignment)-size)); err != nil {
			return err
		}
	}
	return nil
}

// peFile is as much of a PE file as adding sections needs.
type peFile struct {
	head             []byte // a copy of the headers, SizeOfHeaders bytes
	coff, table      int    // offsets in head
	sizeOfHeaders    uint32
	sectionAlignment uint32
	fileAlignment    uint32
	endAddress       uint32 // behind the last section in memory
	endOffset        uint32 // behind the last section in the file
	sections         map[string]bool
}

func parsePE(b []byte) (*peFile, error) {
	at := func(off, n int) ([]byte, error) {
		if off < 0 || off > len(b)-n {
			return nil, fmt.Errorf("the file ends before offset %d", off+n)
		}
		return b[off : off+n], nil
	}
	dos, err := at(0, 64)
	if err != nil || string(dos[:2]) != "MZ" {
		return nil, errors.New("it is no PE file")
	}
	pe := &peFile{coff: int(binary.LittleEndian.Uint32(dos[peOffsetField:])) + 4, sections: map[string]bool{}}
	if pe.coff > 1<<20 {
		return nil, errors.New("its PE header lies beyond 1 MiB")
	}
	coff, err := at(pe.coff-4, 4+peCOFFBytes)
	if err != nil || string(coff[:4]) != "PE\x00\x00" {
		return nil, errors.New("it is no PE file")
	}
	coff = coff[4:]
	if m := binary.LittleEndian.Uint16(coff); m != peMachineAMD64 {
		return nil, fmt.Errorf("it is for machine %#x, not for x86-64", m)
	}
	n, optBytes := int(binary.LittleEndian.Uint16(coff[2:])), int(binary.LittleEndian.Uint16(coff[16:]))
	opt, err := at(pe.coff+peCOFFBytes, optBytes)
	if err != nil || optBytes < 112 || binary.LittleEndian.Uint16(opt) != peMagicPlus {
		return nil, errors.New("it has no PE32+ header")
	}
	pe.sectionAlignment = binary.LittleEndian.Uint32(opt[optSectionAlignment:])
	pe.fileAlignment = binary.LittleEndian.Uint32(opt[optFileAlignment:])
	pe.sizeOfHeaders = binary.LittleEndian.Uint32(opt[optSizeOfHeaders:])
	for _, a := range []uint32{pe.sectionAlignment, pe.fileAlignment} {
		if a < 16 || a > 1<<16 || a&(a-1) != 0 {
			return nil, fmt.Errorf("its alignment %d is no power of two between 16 and 65536", a)
		}
	}
	pe.table = pe.coff + peCOFFBytes + optBytes
	headers, err := at(0, int(pe.sizeOfHeaders))
	if err != nil || n == 0 || pe.table+n*peSectionBytes > len(headers) {
		return nil, errors.New("its section table lies outside of its headers")
	}
	pe.head = append([]byte(nil), headers...)
	pe.endAddress, pe.endOffset = pe.sizeOfHeaders, pe.sizeOfHeaders
	for i := range n {
		h := headers[pe.table+i*peSectionBytes:]
		size, address := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
		raw, offset := binary.LittleEndian.Uint32(h[16:]), binary.LittleEndian.Uint32(h[20:])
		if uint64(address)+uint64(size) > maxStubBytes*16 || uint64(offset)+uint64(raw) > uint64(len(b)) {
			return nil, fmt.Errorf("its section %d lies outside of the file", i)
		}
		pe.endAddress, pe.endOffset = max(pe.endAddress, address+max(size, raw)), max(pe.endOffset, offset+raw)
		name := h[:8]
		for len(name) > 0 && name[len(name)-1] == 0 {
			name = name[:len(name)-1]
		}
		if pe.sections[string(name)] {
			return nil, fmt.Errorf("it has two sections %q", name)
		}
		pe.sections[string(name)] = true
	}
	return pe, nil
}
