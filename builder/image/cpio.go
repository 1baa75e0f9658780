package image

import (
	"fmt"
	"io"
	"math"
	"time"
)

// cpioWriter writes the "newc" format, the one that Linux unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of
// "070701" and 13 fields of 8 hex digits, name with NUL, content, each padded
// to 4 bytes.
type cpioWriter struct {
	w     io.Writer
	mtime int64
	ino   uint32
}

// writeCPIO writes entries, in their order, and the trailer. Inode numbers
// count up from 1 and link counts are 1 (2 for directories), so that nothing
// depends on the file system that the content lies on.
func writeCPIO(w io.Writer, entries []Entry, epoch time.Time) error {
	c := &cpioWriter{w: w, mtime: epoch.Unix()}
	for i := range entries {
		e := &entries[i]
		if e.Path == "." {
			continue // the kernel's rootfs has its own
		}
		body := e.Content
		if e.Target != "" {
			body = Bytes([]byte(e.Target))
		}
		if body.Size() > math.MaxUint32 {
			return fmt.Errorf("writing the initrd: %s has %d bytes, more than the format can hold", e.Path, body.Size())
		}
		if err := c.entry(e, body); err != nil {
			return fmt.Errorf("writing the initrd: %s: %w", e.Path, err)
		}
	}
	c.ino = 0
	c.mtime = 0
	trailer := Entry{Path: "TRAILER!!!"}
	return c.header(&trailer, 0, 0)
}

func (c *cpioWriter) entry(e *Entry, body Content) error {
	c.ino++
	if err := c.header(e, uint32(e.unixMode()), body.Size()); err != nil {
		return err
	}
	if body.None() {
		return nil
	}
	if _, err := body.WriteTo(c.w); err != nil {
		return err
	}
	return c.pad(body.Size())
}

func (c *cpioWriter) header(e *Entry, mode uint32, size int64) error {
	nlink := 1
	if e.Mode.IsDir() {
		nlink = 2
	}
	h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, e.UID, e.GID, nlink, c.mtime, size,
		0, 0, // the device that holds the file: none
		e.Major, e.Minor, len(e.Path)+1, 0, e.Path)
	if _, err := io.WriteString(c.w, h); err != nil {
		return err
	}
	return c.pad(int64(len(h)))
}

func (c *cpioWriter) pad(n int64) error {
	_, err := c.w.Write(make([]byte, -n&3))
	return err
}
