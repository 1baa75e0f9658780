package image

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// Disk and partition writers are our own. github.com/diskfs/go-diskfs takes
// GUIDs from the random source and FAT volume identifiers from the clock unless
// every one is set by hand, and brings 170 packages; what an image needs of GPT
// and FAT32 is these two small files. The tests read the disk back with
// go-diskfs, as an independent opinion.

const (
	sectorBytes    = 512
	partitionAlign = 1 << 20
	gptEntries     = 128 // UEFI 2.10, 5.3: at least 16 KiB for the entries
	gptEntryBytes  = 128
	gptHeaderBytes = 92
)

// guid is a GUID in the byte order of UEFI (first three fields little-endian).
type guid [16]byte

// parseGUID takes the text form, in constants only.
func parseGUID(s string) guid {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		panic("not a GUID: " + s)
	}
	return guid(b).rfc4122()
}

// rfc4122 swaps between the byte orders of UEFI and RFC 9562; it is its own
// inverse.
func (g guid) rfc4122() guid {
	return guid{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

func (g guid) String() string {
	b := g.rfc4122()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// deriveGUID gives a GUID of version 8 (RFC 9562, 5.8: "vendor-specific").
func deriveGUID(purpose string, of ...[]byte) guid {
	d := derive(purpose, of...)
	b := [16]byte(d[:16])
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return guid(b).rfc4122()
}

// Partition types of the UAPI group's Discoverable Partitions Specification.
var (
	typeESP        = parseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	typeRoot       = parseGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709") // x86-64
	typeRootVerity = parseGUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5") // x86-64
	typeLinux      = parseGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
)

// attrReadOnly is GPT_FLAG_READ_ONLY of the same specification.
const attrReadOnly = 1 << 60

type partition struct {
	kind, id    guid
	label       string
	attributes  uint64
	first, size int64 // bytes
}

// layOut gives the partitions their places and returns the size of the disk.
func layOut(ps []partition) int64 {
	next := int64(partitionAlign)
	for i := range ps {
		ps[i].first = next
		ps[i].size = roundUp(ps[i].size, sectorBytes)
		next = roundUp(next+ps[i].size, partitionAlign)
	}
	return next + partitionAlign
}

// writeGPT writes protective MBR, both headers and both entry arrays (UEFI
// 2.10, 5.2.3 and 5.3) of a disk of the given size.
func writeGPT(w io.WriterAt, diskBytes int64, id guid, ps []partition) error {
	if len(ps) > gptEntries {
		return fmt.Errorf("writing the partition table: %d partitions, more than %d", len(ps), gptEntries)
	}
	le := binary.LittleEndian
	last := uint64(diskBytes/sectorBytes - 1)
	const entriesSectors = gptEntries * gptEntryBytes / sectorBytes

	mbr := make([]byte, sectorBytes)
	entry := mbr[446:]
	copy(entry[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	le.PutUint32(entry[8:], 1)
	le.PutUint32(entry[12:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa

	entries := make([]byte, gptEntries*gptEntryBytes)
	for i, p := range ps {
		e := entries[i*gptEntryBytes:]
		copy(e, p.kind[:])
		copy(e[16:], p.id[:])
		le.PutUint64(e[32:], uint64(p.first/sectorBytes))
		le.PutUint64(e[40:], uint64((p.first+p.size)/sectorBytes-1))
		le.PutUint64(e[48:], p.attributes)
		label := utf16.Encode([]rune(p.label))
		if len(label) > 36 {
			return fmt.Errorf("writing the partition table: label %q is longer than 36", p.label)
		}
		for j, c := range label {
			le.PutUint16(e[56+2*j:], c)
		}
	}
	header := func(here, there, entriesAt uint64) []byte {
		h := make([]byte, sectorBytes)
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 0x00010000)
		le.PutUint32(h[12:], gptHeaderBytes)
		le.PutUint64(h[24:], here)
		le.PutUint64(h[32:], there)
		le.PutUint64(h[40:], 2+entriesSectors)
		le.PutUint64(h[48:], last-1-entriesSectors)
		copy(h[56:], id[:])
		le.PutUint64(h[72:], entriesAt)
		le.PutUint32(h[80:], gptEntries)
		le.PutUint32(h[84:], gptEntryBytes)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:gptHeaderBytes]))
		return h
	}
	for _, part := range []struct {
		sector uint64
		b      []byte
	}{
		{0, mbr},
		{1, header(1, last, 2)},
		{2, entries},
		{last - entriesSectors, entries},
		{last, header(last, 1, last-entriesSectors)},
	} {
		if _, err := w.WriteAt(part.b, int64(part.sector)*sectorBytes); err != nil {
			return fmt.Errorf("writing the partition table: %w", err)
		}
	}
	return nil
}
