// Package image assembles a bootable image, bit for bit: the same Spec gives
// the same bytes on every machine, under every user, umask, locale and clock.
//
// It runs no system tool, mounts nothing and needs no privilege. [Assemble]
// takes a [Spec] and leaves in a folder:
//
//	root.erofs      read-only root file system (EROFS, uncompressed)
//	root.verity     its dm-verity superblock and hash tree (SHA-256)
//	NAME.erofs ...  the same for every further volume (model weights)
//	initrd.cpio     cmd/vitrine-init, kernel modules, the measured configuration
//	cmdline         the kernel command line, without newline or NUL
//	vmlinuz         the kernel, as it came              (Spec.Kernel)
//	uki.efi         kernel, command line and initrd in one EFI program (Spec.Stub)
//	disk.img        GPT: EFI system partition with the UKI, volumes    (Spec.Disk)
//
// vmlinuz, initrd.cpio and cmdline are the direct-boot triple that SEV-SNP
// measures through the hashes page; disk.img is what OVMF starts and measures
// into a TPM.
//
// # What holds what
//
// The root hash of every volume stands in etc/vitrine/volumes.json inside the
// initrd (package guestconfig). Whatever measures the initrd thereby measures
// every byte of every volume, and init starts nothing that it has not checked
// against those hashes. Kernel command line and disk layout carry no hash and
// no choice.
//
// # How a recipe becomes a Spec
//
//	kernel, err := image.KernelFromDeb(linuxDeb, moduleNames)  // vmlinuz, release, modules
//	stub, err := image.StubFromDeb(systemdBootDeb)
//	out, err := image.Assemble(ctx, image.Spec{
//		Epoch:         time.Unix(1760000000, 0),
//		Kernel:        kernel.Image,
//		KernelRelease: kernel.Release,
//		Modules:       kernel.Modules,
//		Stub:          stub,
//		CommandLine:   "console=ttyS0 panic=-1",
//		Init:          vitrineInit,          // image.File(path) or image.Bytes(b)
//		Network:       &guestconfig.Network{Interface: "eth0", Address: "10.0.2.15/24"},
//		Services:      []guestconfig.Service{{Name: "node", Argv: []string{"/usr/bin/vitrine-node"}}},
//		Volumes: []image.Volume{{
//			Name: "root", Mount: "/",
//			Entries: []image.Entry{image.RegularFile("usr/bin/vitrine-node", 0o755, node)},
//		}},
//		Disk: true,
//	}, outDir)
//
// File owners, modes and the one timestamp come from the Spec alone; nothing
// is taken over from the file system that a file happens to lie on.
package image
