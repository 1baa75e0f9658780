// Package vm boots an image in a virtual machine that measures: QEMU on x86-64
// with OVMF as firmware and swtpm as TPM 2.0, without KVM and without privilege.
//
// The machine's shape is fixed: q35, one virtio disk that the guest cannot
// write, a TPM at its CRB interface, one network card whose only connections
// are the forwarded ports, a serial port, and nothing else, so that the
// registers that measure predicts are those that the machine reports. The disk
// is the image's disk.img.
//
// A state folder is one machine: its TPM with its seeds, its UEFI variables,
// its console. [WithTPM] talks to that TPM while the machine is off.
//
// The host owns such a machine, TPM included: what it reports proves to nobody
// else what it runs. It is a rehearsal, and says so as isolation "none".
package vm
