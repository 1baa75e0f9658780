// Package esp adds files to the EFI system partition of a disk image, as a
// hostile host may. It is apart from package vm because nobody but tests needs
// it, nor the file system library that it brings.
package esp

import (
	"fmt"
	"os"
	"path"

	"github.com/diskfs/go-diskfs"
)

// AddFile adds a file to the EFI system partition, with its folders:
// "loader/credentials/x.cred" is one that systemd-stub hands to the guest.
func AddFile(disk, name string, content []byte) error {
	wrap := func(err error) error {
		return fmt.Errorf("adding %s to the EFI system partition of %s: %w", name, disk, err)
	}
	d, err := diskfs.Open(disk)
	if err != nil {
		return wrap(err)
	}
	defer d.Close()
	esp, err := d.GetFilesystem(1)
	if err != nil {
		return wrap(err)
	}
	if err := esp.Mkdir(path.Dir(name)); err != nil {
		return wrap(err)
	}
	f, err := esp.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return wrap(err)
	}
	if _, err := f.Write(content); err != nil {
		return wrap(err)
	}
	if err := f.Close(); err != nil {
		return wrap(err)
	}
	return nil
}
