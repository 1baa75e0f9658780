package image

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// diskVolume is a finished volume and the two files that hold it.
type diskVolume struct {
	guestconfig.Volume
	data, hash Content
}

// writeDisk writes a GPT disk: the EFI system partition (unless uki is none),
// then data and hash tree of every volume. Every identifier is derived from
// what the partition holds; those of a volume are the halves of its root hash,
// as the Discoverable Partitions Specification wants them.
func writeDisk(f *os.File, uki Content, ukiDigest []byte, volumes []diskVolume, epoch time.Time) error {
	var ps []partition
	var write []func(io.WriterAt) error
	identity := [][]byte{ukiDigest}
	if !uki.None() {
		esp, err := newFAT32(uki.Size())
		if err != nil {
			return err
		}
		volumeID := derive("FAT volume identifier", ukiDigest)
		ps = append(ps, partition{kind: typeESP, id: deriveGUID("EFI system partition", ukiDigest), label: "vitrine-esp", size: esp.size()})
		write = append(write, func(w io.WriterAt) error {
			return esp.write(w, uki, binary.LittleEndian.Uint32(volumeID[:]), epoch)
		})
	}
	for _, v := range volumes {
		root, err := hex.DecodeString(v.RootHash)
		if err != nil || len(root) != 32 {
			return fmt.Errorf("writing the disk: root hash %q of volume %s is no SHA-256 digest", v.RootHash, v.Name)
		}
		identity = append(identity, []byte(v.Name), root)
		data, hash := typeLinux, typeLinux
		if v.Name == guestconfig.RootVolume {
			data, hash = typeRoot, typeRootVerity
		}
		ps = append(ps,
			partition{kind: data, id: guid(root[:16]).rfc4122(), label: v.DataLabel(), attributes: attrReadOnly, size: v.data.Size()},
			partition{kind: hash, id: guid(root[16:]).rfc4122(), label: v.HashLabel(), attributes: attrReadOnly, size: v.hash.Size()})
		for _, c := range []Content{v.data, v.hash} {
			write = append(write, func(w io.WriterAt) error {
				_, err := c.WriteTo(io.NewOffsetWriter(w, 0))
				return err
			})
		}
	}
	size := layOut(ps)
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("writing the disk: %w", err)
	}
	if err := writeGPT(f, size, deriveGUID("disk", identity...), ps); err != nil {
		return err
	}
	for i, p := range ps {
		if err := write[i](io.NewOffsetWriter(f, p.first)); err != nil {
			return fmt.Errorf("writing partition %s: %w", p.label, err)
		}
	}
	return nil
}
