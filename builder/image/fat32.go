package image

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// fat32 is a FAT32 file system with one file, bootPath, whose clusters lie one
// after the other (Microsoft, "FAT: General Overview of On-Disk Format" 1.03).
type fat32 struct {
	sectors           uint32
	sectorsPerCluster uint32
	fatSectors        uint32
	clusters          uint32
	fileBytes         uint32
}

// bootPath is what UEFI firmware for x86-64 starts from a disk that it was told
// nothing about (UEFI 2.10, 3.5.1.1), as directories and 8.3 names.
var bootPath = [3]string{"EFI        ", "BOOT       ", "BOOTX64 EFI"}

const (
	fatReserved = 32
	// Below this number of clusters a file system is FAT16 by definition.
	fatMinClusters = 65525
	fatMinBytes    = 36 << 20
	// Above it a cluster has 4 KiB, as with every formatter.
	fatSmallBytes = 260 << 20
	// Room besides the file: nothing of ours uses it.
	fatSlackBytes = 2 << 20
	fatEnd        = 0x0fffffff
)

// newFAT32 lays out a file system for a file of the given size.
func newFAT32(fileBytes int64) (*fat32, error) {
	if fileBytes > maxUKIBytes {
		return nil, fmt.Errorf("laying out the EFI system partition: the UKI has %d bytes, more than %d", fileBytes, int64(maxUKIBytes))
	}
	f := &fat32{fileBytes: uint32(fileBytes), sectorsPerCluster: 1}
	// Each of the two tables takes 4 bytes for each cluster of at least 512.
	size := max(fatMinBytes, roundUp(fileBytes+fileBytes/32+fatSlackBytes, partitionAlign))
	if size > fatSmallBytes {
		f.sectorsPerCluster = 8
		size = max(size, fatSmallBytes+(8<<20))
	}
	f.sectors = uint32(size / sectorBytes)
	for {
		f.clusters = (f.sectors - fatReserved - 2*f.fatSectors) / f.sectorsPerCluster
		need := (f.clusters + 2 + sectorBytes/4 - 1) / (sectorBytes / 4)
		if need <= f.fatSectors {
			break
		}
		f.fatSectors = need
	}
	if f.clusters < fatMinClusters || f.fileClusters()+3 > f.clusters {
		return nil, fmt.Errorf("laying out the EFI system partition: %d clusters are too few for a file of %d bytes", f.clusters, fileBytes)
	}
	return f, nil
}

func (f *fat32) size() int64         { return int64(f.sectors) * sectorBytes }
func (f *fat32) clusterBytes() int64 { return int64(f.sectorsPerCluster) * sectorBytes }
func (f *fat32) fileClusters() uint32 {
	return uint32(roundUp(int64(f.fileBytes), f.clusterBytes()) / f.clusterBytes())
}

func (f *fat32) clusterOffset(n uint32) int64 {
	return (fatReserved+2*int64(f.fatSectors))*sectorBytes + int64(n-2)*f.clusterBytes()
}

// Clusters 2 to 4 are the root, \EFI and \EFI\BOOT, each with less than one
// cluster of entries; the file follows.
const fatFirstFileCluster = 5

// write writes the file system into w, which reads as zeros wherever nothing
// was written.
func (f *fat32) write(w io.WriterAt, file Content, volumeID uint32, epoch time.Time) error {
	wrap := func(err error) error { return fmt.Errorf("writing the EFI system partition: %w", err) }
	boot := f.bootSector(volumeID)
	info := f.infoSector()
	for _, at := range []int64{0, 6} { // the second is the backup
		if _, err := w.WriteAt(boot, at*sectorBytes); err != nil {
			return wrap(err)
		}
		if _, err := w.WriteAt(info, (at+1)*sectorBytes); err != nil {
			return wrap(err)
		}
	}
	table := make([]byte, 4*(fatFirstFileCluster+int(f.fileClusters())))
	put := func(n int, v uint32) { binary.LittleEndian.PutUint32(table[4*n:], v) }
	put(0, 0x0ffffff8)
	for n := 1; n < fatFirstFileCluster; n++ {
		put(n, fatEnd)
	}
	for n := fatFirstFileCluster; n < len(table)/4; n++ {
		put(n, uint32(n+1))
	}
	put(len(table)/4-1, fatEnd)
	for i := range int64(2) {
		if _, err := w.WriteAt(table, (fatReserved+i*int64(f.fatSectors))*sectorBytes); err != nil {
			return wrap(err)
		}
	}
	const dir, archive = 0x10, 0x20
	stamp := fatTime(epoch)
	for _, d := range []struct {
		cluster uint32
		entries []byte
	}{
		{2, fatEntry(bootPath[0], dir, 3, 0, stamp)},
		{3, join(fatEntry(".          ", dir, 3, 0, stamp), fatEntry("..         ", dir, 0, 0, stamp), fatEntry(bootPath[1], dir, 4, 0, stamp))},
		{4, join(fatEntry(".          ", dir, 4, 0, stamp), fatEntry("..         ", dir, 3, 0, stamp), fatEntry(bootPath[2], archive, fatFirstFileCluster, f.fileBytes, stamp))},
	} {
		if _, err := w.WriteAt(d.entries, f.clusterOffset(d.cluster)); err != nil {
			return wrap(err)
		}
	}
	if _, err := file.WriteTo(io.NewOffsetWriter(w, f.clusterOffset(fatFirstFileCluster))); err != nil {
		return wrap(err)
	}
	return nil
}

func (f *fat32) bootSector(volumeID uint32) []byte {
	b := make([]byte, sectorBytes)
	le := binary.LittleEndian
	copy(b, []byte{0xeb, 0x58, 0x90})
	copy(b[3:], "VITRINE ")
	le.PutUint16(b[11:], sectorBytes)
	b[13] = byte(f.sectorsPerCluster)
	le.PutUint16(b[14:], fatReserved)
	b[16] = 2    // tables
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], partitionAlign/sectorBytes) // the ESP is the first partition
	le.PutUint32(b[32:], f.sectors)
	le.PutUint32(b[36:], f.fatSectors)
	le.PutUint32(b[44:], 2) // the root's cluster
	le.PutUint16(b[48:], 1) // FSInfo
	le.PutUint16(b[50:], 6) // backup of this sector
	b[64] = 0x80
	b[66] = 0x29
	le.PutUint32(b[67:], volumeID)
	copy(b[71:], "ESP        ")
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (f *fat32) infoSector() []byte {
	b := make([]byte, sectorBytes)
	used := fatFirstFileCluster - 2 + f.fileClusters()
	binary.LittleEndian.PutUint32(b, 0x41615252)
	binary.LittleEndian.PutUint32(b[484:], 0x61417272)
	binary.LittleEndian.PutUint32(b[488:], f.clusters-used)
	binary.LittleEndian.PutUint32(b[492:], 2+used)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// fatEntry is a directory entry for an 8.3 name in its padded form.
func fatEntry(name string, attributes byte, cluster, size, stamp uint32) []byte {
	b := make([]byte, 32)
	le := binary.LittleEndian
	copy(b, name)
	b[11] = attributes
	le.PutUint32(b[14:], stamp)               // created
	le.PutUint16(b[18:], uint16(stamp>>16))   // read
	le.PutUint16(b[20:], uint16(cluster>>16)) //
	le.PutUint32(b[22:], stamp)               // written
	le.PutUint16(b[26:], uint16(cluster&math.MaxUint16))
	le.PutUint32(b[28:], size)
	return b
}

// fatTime is a date in the upper and a time in the lower 16 bits, in UTC.
func fatTime(t time.Time) uint32 {
	t = t.UTC()
	date := (t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()
	clock := t.Hour()<<11 | t.Minute()<<5 | t.Second()/2
	return uint32(date)<<16 | uint32(clock)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
