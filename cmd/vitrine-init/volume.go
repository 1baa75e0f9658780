//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

const (
	deviceTimeout = 10 * time.Second
	devicePoll    = 20 * time.Millisecond
)

// openVolume puts dm-verity over the partitions of v and reads every block.
//
// It does so twice over: first in the mode in which a block that does not match
// gives a read error, so that the console can name the block; then in the mode
// in which the kernel panics, for all that is read later. Between the two the
// host may change the disk, which the second then meets.
func openVolume(v guestconfig.Volume) error {
	data, err := waitForPartition(v.DataLabel())
	if err != nil {
		return err
	}
	hash, err := waitForPartition(v.HashLabel())
	if err != nil {
		return err
	}
	c, err := dm.Open()
	if err != nil {
		return fmt.Errorf("opening the device mapper: %w", err)
	}
	defer c.Close()
	if err := createVerity(c, v, data, hash); err != nil {
		return err
	}
	if err := readVolume(v); err != nil {
		return err
	}
	if err := removeDevice(c, v.Name); err != nil {
		return err
	}
	return createVerity(c, v, data, hash, "panic_on_corruption")
}

// createVerity makes and starts the device. Everything that decides about a
// block comes from v, that is, from the measured initrd; the superblock in the
// hash partition is skipped.
func createVerity(c *dm.Control, v guestconfig.Volume, data, hash string, flags ...string) error {
	root, err := hex.DecodeString(v.RootHash)
	if err != nil {
		return fmt.Errorf("volume %s: root hash: %w", v.Name, err)
	}
	salt, err := hex.DecodeString(v.Salt)
	if err != nil {
		return fmt.Errorf("volume %s: salt: %w", v.Name, err)
	}
	params, err := dm.BuildTargetParams(dm.OpenArgs{
		Version: 1, HashName: "sha256",
		DataDevice: data, DataBlockSize: guestconfig.BlockSize, DataBlocks: v.DataBlocks,
		HashDevice: hash, HashBlockSize: guestconfig.BlockSize, HashStartBytes: guestconfig.HashStart,
		RootDigest: root, Salt: salt, Flags: flags,
	})
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	if _, err := c.CreateDevice(v.Name); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	const sector = 512
	target := dm.Target{Type: "verity", Length: v.DataBlocks * (guestconfig.BlockSize / sector), Params: params}
	if err := c.LoadTable(v.Name, []dm.Target{target}); err != nil {
		return fmt.Errorf("volume %s: setting up dm-verity: %w", v.Name, err)
	}
	if err := c.SuspendDevice(v.Name, false); err != nil {
		return fmt.Errorf("volume %s: starting dm-verity: %w", v.Name, err)
	}
	return nil
}

// mapperDevice is the block device of the named mapping; without udev there is
// no /dev/mapper/NAME.
func mapperDevice(name string) (string, error) {
	c, err := dm.Open()
	if err != nil {
		return "", fmt.Errorf("opening the device mapper: %w", err)
	}
	defer c.Close()
	s, err := c.DeviceStatus(name)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	return fmt.Sprintf("/dev/dm-%d", s.Minor), nil
}

// removeDevice waits for the kernel to let go of the device that was just closed.
func removeDevice(c *dm.Control, name string) error {
	for end := time.Now().Add(deviceTimeout); ; time.Sleep(devicePoll) {
		err := c.RemoveDevice(name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("volume %s: %w", name, err)
		}
	}
}

func readVolume(v guestconfig.Volume) error {
	device, err := mapperDevice(v.Name)
	if err != nil {
		return err
	}
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	defer f.Close()
	return readAll(f, v)
}

// readAll reads every block of v and names the first that cannot be read.
func readAll(r io.ReaderAt, v guestconfig.Volume) error {
	const chunk = 1 << 20
	buf := make([]byte, chunk)
	size := int64(v.DataBlocks) * guestconfig.BlockSize
	for at := int64(0); at < size; at += chunk {
		part := buf[:min(chunk, size-at)]
		if _, err := r.ReadAt(part, at); err == nil {
			continue
		}
		for ; len(part) > 0; part, at = part[guestconfig.BlockSize:], at+guestconfig.BlockSize {
			if _, err := r.ReadAt(part[:guestconfig.BlockSize], at); err != nil {
				return fmt.Errorf("volume %s: block %d (bytes %d to %d) does not match root hash %s: %w",
					v.Name, at/guestconfig.BlockSize, at, at+guestconfig.BlockSize-1, v.RootHash, err)
			}
		}
		return fmt.Errorf("volume %s: a block before byte %d could not be read at first and could later: the disk changes", v.Name, at)
	}
	return nil
}

func waitForPartition(label string) (string, error) {
	for end := time.Now().Add(deviceTimeout); ; time.Sleep(devicePoll) {
		device, err := findPartition(os.DirFS("/sys/class/block"), label)
		if err != nil {
			return "", err
		}
		if device != "" {
			return device, nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("there is no partition %q on any disk: without its volume and hash tree nothing is started", label)
		}
	}
}

// findPartition gives the device of the only partition with that GPT name, ""
// for none. The name decides nothing: a partition of another content fails
// against the root hash.
func findPartition(sysClassBlock fs.FS, label string) (string, error) {
	devices, err := fs.ReadDir(sysClassBlock, ".")
	if err != nil {
		return "", fmt.Errorf("looking for partition %q: %w", label, err)
	}
	found := ""
	for _, d := range devices {
		b, err := fs.ReadFile(sysClassBlock, d.Name()+"/uevent")
		if err != nil {
			return "", fmt.Errorf("looking for partition %q: %w", label, err)
		}
		values := map[string]string{}
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			name, value, _ := strings.Cut(s.Text(), "=")
			values[name] = value
		}
		if values["DEVTYPE"] != "partition" || values["PARTNAME"] != label {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("there are two partitions %q, %s and /dev/%s: remove the disk that is not the image", label, found, d.Name())
		}
		found = "/dev/" + d.Name()
	}
	return found, nil
}
