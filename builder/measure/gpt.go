package measure

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// GUID partition table (UEFI 2.10, 5.3).
const (
	// sectorSize is the logical block size of the disks that are understood.
	sectorSize      = 512
	gptSignature    = "EFI PART"
	gptHeaderLength = 92
	gptEntryLength  = 128
	// maxGPTEntries bounds the partition array to 512 KiB; every tool writes
	// 128 entries.
	maxGPTEntries = 4096
)

// gptEvent computes the data of the EV_EFI_GPT_EVENT that firmware extends into
// PCR 5 when it loads an application from a partition of disk: the primary
// header, the number of partitions in use, and their entries (UEFI_GPT_DATA,
// TCG PC Client Platform Firmware Profile 10.2.4). It returns nil for a disk
// without a GPT, for which there is no event.
//
// Header and entries must be valid in every checksum: firmware repairs a broken
// primary table from the backup, and what it measures then is not in the file.
func gptEvent(disk *io.SectionReader) ([]byte, error) {
	header, err := readAt(disk, sectorSize, sectorSize, "the GPT header")
	if err != nil {
		return nil, err
	}
	if string(header[:8]) != gptSignature {
		last, err := readAt(disk, disk.Size()/sectorSize*sectorSize-sectorSize, sectorSize, "the backup GPT header")
		if err != nil {
			return nil, err
		}
		if string(last[:8]) == gptSignature {
			return nil, fmt.Errorf("the disk has a backup GPT at its end but no primary one at offset %#x: write the table anew", sectorSize)
		}
		return nil, nil
	}
	headerLength := binary.LittleEndian.Uint32(header[12:])
	if headerLength != gptHeaderLength {
		return nil, fmt.Errorf("the GPT header at offset %#x says it is %d bytes long, and only %d are understood", sectorSize, headerLength, gptHeaderLength)
	}
	header = header[:gptHeaderLength]
	if want, got := binary.LittleEndian.Uint32(header[16:]), crcWithout(header, 16); want != got {
		return nil, fmt.Errorf("the GPT header at offset %#x has checksum %#08x, and its bytes have %#08x: write the table anew", sectorSize, want, got)
	}
	if lba := binary.LittleEndian.Uint64(header[24:]); lba != 1 {
		return nil, fmt.Errorf("the GPT header at offset %#x says it is at block %d, not 1", sectorSize, lba)
	}
	count := binary.LittleEndian.Uint32(header[80:])
	entryLength := binary.LittleEndian.Uint32(header[84:])
	if entryLength != gptEntryLength || count == 0 || count > maxGPTEntries {
		return nil, fmt.Errorf("the GPT header at offset %#x has %d entries of %d bytes, and only 1 to %d of %d are understood", sectorSize, count, entryLength, maxGPTEntries, gptEntryLength)
	}
	lba := binary.LittleEndian.Uint64(header[72:])
	if lba < 2 || lba > uint64(disk.Size()/sectorSize) {
		return nil, fmt.Errorf("the GPT header at offset %#x puts the partition entries at block %d, outside the disk", sectorSize, lba)
	}
	entries, err := readAt(disk, int64(lba)*sectorSize, int64(count)*gptEntryLength, "the GPT partition entries")
	if err != nil {
		return nil, err
	}
	if want, got := binary.LittleEndian.Uint32(header[88:]), crc32.ChecksumIEEE(entries); want != got {
		return nil, fmt.Errorf("the GPT partition entries at block %d should have checksum %#08x, and have %#08x: write the table anew", lba, want, got)
	}
	var used uint64
	var table []byte
	for entry := range slices.Chunk(entries, gptEntryLength) {
		if [16]byte(entry) != [16]byte{} { // an unused entry has a zero type
			used++
			table = append(table, entry...)
		}
	}
	event := binary.LittleEndian.AppendUint64(header, used)
	return append(event, table...), nil
}

// crcWithout is the CRC-32 of b with the four bytes at offset, where the
// checksum itself is stored, taken as zero.
func crcWithout(b []byte, offset int) uint32 {
	crc := crc32.ChecksumIEEE(b[:offset])
	crc = crc32.Update(crc, crc32.IEEETable, make([]byte, 4))
	return crc32.Update(crc, crc32.IEEETable, b[offset+4:])
}
