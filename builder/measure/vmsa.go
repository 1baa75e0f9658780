package measure

import "encoding/binary"

// VMM is the virtual machine monitor, each of which starts a vCPU with
// registers of its own.
type VMM string

const (
	// VMMQEMU is QEMU with KVM.
	VMMQEMU VMM = "qemu"
	// VMMEC2 is Amazon EC2.
	VMMEC2 VMM = "ec2"
	// VMMGCE is Google Compute Engine, on Milan.
	VMMGCE VMM = "gce"
)

// resetVector is where the first vCPU of every machine begins.
const resetVector = 0xfffffff0

// Offsets in the VM save area (AMD64 APM volume 2, table B-4). A segment
// register is selector (16 bits), attributes (16), limit (32) and base (64).
const (
	vmsaES          = 0x000
	vmsaCS          = 0x010
	vmsaSS          = 0x020
	vmsaDS          = 0x030
	vmsaFS          = 0x040
	vmsaGS          = 0x050
	vmsaGDTR        = 0x060
	vmsaLDTR        = 0x070
	vmsaIDTR        = 0x080
	vmsaTR          = 0x090
	vmsaEFER        = 0x0d0
	vmsaCR4         = 0x148
	vmsaCR0         = 0x158
	vmsaDR7         = 0x160
	vmsaDR6         = 0x168
	vmsaRFLAGS      = 0x170
	vmsaRIP         = 0x178
	vmsaGPAT        = 0x268
	vmsaRDX         = 0x310
	vmsaSEVFeatures = 0x3b0
	vmsaXCR0        = 0x3e8
	vmsaMXCSR       = 0x408
	vmsaX87FCW      = 0x410
)

// vmsaPage is a VM save area: the registers with which a vCPU starts.
type vmsaPage [pageSize]byte

func (p *vmsaPage) set64(offset int, value uint64) {
	binary.LittleEndian.PutUint64(p[offset:], value)
}

func (p *vmsaPage) segment(offset int, selector, attributes uint16, limit uint32, base uint64) {
	binary.LittleEndian.PutUint16(p[offset:], selector)
	binary.LittleEndian.PutUint16(p[offset+2:], attributes)
	binary.LittleEndian.PutUint32(p[offset+4:], limit)
	binary.LittleEndian.PutUint64(p[offset+8:], base)
}

// common sets what every VMM starts a vCPU with: the state after a reset
// (AMD64 APM volume 2, table 14-1), with the bits that KVM adds.
func (p *vmsaPage) common(features uint64) {
	p.segment(vmsaGDTR, 0, 0, 0xffff, 0)
	p.segment(vmsaLDTR, 0, 0x82, 0xffff, 0)
	p.segment(vmsaIDTR, 0, 0, 0xffff, 0)
	p.set64(vmsaEFER, 0x1000) // SVME
	p.set64(vmsaCR4, 0x40)    // MCE
	p.set64(vmsaDR7, 0x400)
	p.set64(vmsaDR6, 0xffff0ff0)
	p.set64(vmsaRFLAGS, 2)
	p.set64(vmsaXCR0, 1)
	p.set64(vmsaSEVFeatures, features)
}

// realMode makes the save area of a vCPU that starts in real mode at eip.
func realMode(vmm VMM, eip uint32, signature uint32, features uint64) *vmsaPage {
	var (
		code, stack, task uint16 = 0x9b, 0x93, 0x8b
		rdx                      = uint64(signature)
		pat               uint64 = 0x0007040600070406 // the reset value
		mxcsr             uint32 = 0x1f80
		fcw               uint16 = 0x37f
	)
	switch vmm {
	case VMMEC2:
		stack, task = 0x92, 0x83
		if eip == resetVector {
			code = 0x9a
		}
		rdx, mxcsr, fcw = 0x600, 0, 0
	case VMMGCE:
		rdx, mxcsr, fcw = 0x600, 0, 0
		pat = 0x70106
	}
	p := new(vmsaPage)
	p.common(features)
	p.segment(vmsaES, 0, 0x93, 0xffff, 0)
	p.segment(vmsaCS, 0xf000, code, 0xffff, uint64(eip&0xffff0000))
	p.segment(vmsaSS, 0, stack, 0xffff, 0)
	p.segment(vmsaDS, 0, 0x93, 0xffff, 0)
	p.segment(vmsaFS, 0, 0x93, 0xffff, 0)
	p.segment(vmsaGS, 0, 0x93, 0xffff, 0)
	p.segment(vmsaTR, 0, task, 0xffff, 0)
	p.set64(vmsaCR0, 0x10) // ET
	p.set64(vmsaRIP, uint64(eip&0xffff))
	p.set64(vmsaGPAT, pat)
	p.set64(vmsaRDX, rdx)
	binary.LittleEndian.PutUint32(p[vmsaMXCSR:], mxcsr)
	binary.LittleEndian.PutUint16(p[vmsaX87FCW:], fcw)
	return p
}

// protectedMode makes the save area of a vCPU that QEMU starts in an SVSM: in
// flat 32-bit mode at eip. SEV_FEATURES is SNP alone there: a launch whose guest
// ran with debug-swap (0x21) was measured with 1.
func protectedMode(eip uint32, signature uint32) *vmsaPage {
	const flat = 0xffffffff
	p := new(vmsaPage)
	p.common(1)
	p.segment(vmsaES, 16, 0xc93, flat, 0)
	p.segment(vmsaCS, 8, 0xc9b, flat, 0)
	p.segment(vmsaSS, 16, 0xc93, flat, 0)
	p.segment(vmsaDS, 16, 0xc93, flat, 0)
	p.segment(vmsaFS, 16, 0xc93, flat, 0)
	p.segment(vmsaGS, 0, 0x93, 0xffff, 0)
	p.segment(vmsaTR, 0, 0x8b, 0xffff, 0)
	p.set64(vmsaCR0, 0x11) // ET, PE
	p.set64(vmsaRIP, uint64(eip))
	p.set64(vmsaGPAT, 0x0007040600070406)
	p.set64(vmsaRDX, uint64(signature))
	binary.LittleEndian.PutUint32(p[vmsaMXCSR:], 0x1f80)
	return p
}
