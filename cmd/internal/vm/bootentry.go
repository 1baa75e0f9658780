package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unicode/utf16"
)

// Where OVMF's variable file keeps variables (EDK2,
// MdeModulePkg/Include/Guid/VariableFormat.h): firmware volume header, variable
// store header, then authenticated variables, each at a multiple of 4 bytes.
const (
	volumeHeaderLength = 48 // offset of HeaderLength in the volume header
	storeHeaderBytes   = 28
	storeSize          = 16 // offset of Size in the store header
	variableBytes      = 60
	variableStart      = 0x55aa
	variableAdded      = 0x3f
	// Non-volatile, for boot services and at run time (UEFI 2.10, 8.2).
	variableAttributes = 7
)

// efiGlobalVariable is 8be4df61-93ca-11d2-aa0d-00e098032b8c as UEFI stores it.
var efiGlobalVariable = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

// addBootEntry adds to vars a boot entry that starts \EFI\BOOT\BOOTX64.EFI of
// the disk's first partition with load options, and makes it the first.
func addBootEntry(vars []byte, disk, loadOptions string) ([]byte, error) {
	esp, err := firstPartition(disk)
	if err != nil {
		return nil, fmt.Errorf("making a boot entry for %s: %w", disk, err)
	}
	const number = 0x0042
	vars, err = addVariable(vars, fmt.Sprintf("Boot%04X", number), loadOption(esp, loadOptions))
	if err == nil {
		vars, err = addVariable(vars, "BootOrder", binary.LittleEndian.AppendUint16(nil, number))
	}
	if err != nil {
		return nil, fmt.Errorf("making a boot entry for %s: %w", disk, err)
	}
	return vars, nil
}

func addVariable(vars []byte, name string, data []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(vars) < 64 || string(vars[40:44]) != "_FVH" {
		return nil, errors.New("the firmware's variable file is no firmware volume")
	}
	store := int(le.Uint16(vars[volumeHeaderLength:]))
	if store+storeHeaderBytes > len(vars) {
		return nil, errors.New("the firmware's variable file ends before its variables")
	}
	end := store + int(le.Uint32(vars[store+storeSize:]))
	if end > len(vars) {
		return nil, errors.New("the firmware's variable file ends before its variables")
	}
	at := store + storeHeaderBytes
	for at+variableBytes <= end && le.Uint16(vars[at:]) == variableStart {
		at += variableBytes + int(le.Uint32(vars[at+36:])) + int(le.Uint32(vars[at+40:]))
		at = (at + 3) &^ 3
	}
	encoded := utf16z(name)
	v := make([]byte, variableBytes)
	le.PutUint16(v, variableStart)
	v[2] = variableAdded
	le.PutUint32(v[4:], variableAttributes)
	le.PutUint32(v[36:], uint32(len(encoded)))
	le.PutUint32(v[40:], uint32(len(data)))
	copy(v[44:], efiGlobalVariable)
	v = append(append(v, encoded...), data...)
	if at+len(v) > end {
		return nil, errors.New("the firmware's variable file has no room")
	}
	vars = bytes.Clone(vars)
	copy(vars[at:], v)
	return vars, nil
}

// loadOption is EFI_LOAD_OPTION (UEFI 2.10, 3.1.3).
func loadOption(esp gptPartition, options string) []byte {
	file := utf16z(`\EFI\BOOT\BOOTX64.EFI`)
	var path []byte
	// Media device path, hard drive (10.3.5.1): GPT partition by its GUID.
	path = append(path, 4, 1, 42, 0)
	path = binary.LittleEndian.AppendUint32(path, 1)
	path = binary.LittleEndian.AppendUint64(path, esp.first)
	path = binary.LittleEndian.AppendUint64(path, esp.last-esp.first+1)
	path = append(path, esp.id[:]...)
	path = append(path, 2, 2)
	// Media device path, file (10.3.5.4), and the end.
	path = append(path, 4, 4)
	path = binary.LittleEndian.AppendUint16(path, uint16(4+len(file)))
	path = append(path, file...)
	path = append(path, 0x7f, 0xff, 4, 0)

	b := binary.LittleEndian.AppendUint32(nil, 1) // LOAD_OPTION_ACTIVE
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, utf16z("other options")...)
	b = append(b, path...)
	return append(b, utf16z(options)...)
}

func utf16z(s string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

type gptPartition struct {
	id          [16]byte
	label       string
	first, last uint64 // sectors of 512 bytes
}

// partitions reads the GPT of a disk that builder/image wrote.
func partitions(disk string) ([]gptPartition, error) {
	f, err := os.Open(disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 34*512)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	if string(b[512:520]) != "EFI PART" {
		return nil, errors.New("there is no GPT")
	}
	var ps []gptPartition
	for e := b[1024:]; len(e) >= 128 && !bytes.Equal(e[:16], make([]byte, 16)); e = e[128:] {
		p := gptPartition{id: [16]byte(e[16:32]), first: binary.LittleEndian.Uint64(e[32:]), last: binary.LittleEndian.Uint64(e[40:])}
		var label []uint16
		for i := 56; i < 128; i += 2 {
			if c := binary.LittleEndian.Uint16(e[i:]); c != 0 {
				label = append(label, c)
			}
		}
		p.label = string(utf16.Decode(label))
		ps = append(ps, p)
	}
	if len(ps) == 0 {
		return nil, errors.New("its GPT is empty")
	}
	return ps, nil
}

func firstPartition(disk string) (gptPartition, error) {
	ps, err := partitions(disk)
	if err != nil {
		return gptPartition{}, err
	}
	return ps[0], nil
}
