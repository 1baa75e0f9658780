package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// What a hostile host can do to a disk. The functions work on a copy that the
// caller made (CopyDisk).

// CopyDisk copies a disk image to a new file.
func CopyDisk(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copying a disk: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copying a disk: %w", err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return fmt.Errorf("copying a disk: %w", err)
	}
	if err := dst.Close(); err != nil {
		return fmt.Errorf("copying a disk: %w", err)
	}
	return nil
}

// FlipBit changes one bit of the first byte of the only occurrence of marker in
// the root volume, and gives the number of the verity block that holds it.
func FlipBit(disk string, marker []byte) (block int64, err error) {
	wrap := func(err error) error { return fmt.Errorf("changing a byte of the root volume in %s: %w", disk, err) }
	ps, err := partitions(disk)
	if err != nil {
		return 0, wrap(err)
	}
	root := guestconfig.Volume{Name: guestconfig.RootVolume}.DataLabel()
	for _, p := range ps {
		if p.label != root {
			continue
		}
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		if err != nil {
			return 0, wrap(err)
		}
		defer f.Close()
		start := int64(p.first) * 512
		b := make([]byte, int64(p.last-p.first+1)*512)
		if _, err := f.ReadAt(b, start); err != nil {
			return 0, wrap(err)
		}
		at := bytes.Index(b, marker)
		if at < 0 || bytes.LastIndex(b, marker) != at {
			return 0, wrap(errors.New("the marker is not there exactly once"))
		}
		if _, err := f.WriteAt([]byte{b[at] ^ 1}, start+int64(at)); err != nil {
			return 0, wrap(err)
		}
		return int64(at) / guestconfig.BlockSize, nil
	}
	return 0, wrap(fmt.Errorf("there is no partition %q", root))
}
