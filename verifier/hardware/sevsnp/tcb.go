package sevsnp

import "encoding/binary"

// component is one part of a TCB version.
type component struct {
	name string // in codes and claims
	of   func(TCB) uint8
}

var components = []component{
	{"bootloader", func(t TCB) uint8 { return t.Bootloader }},
	{"tee", func(t TCB) uint8 { return t.TEE }},
	{"snp", func(t TCB) uint8 { return t.SNP }},
	{"microcode", func(t TCB) uint8 { return t.Microcode }},
	{"fmc", func(t TCB) uint8 { return t.FMC }},
}

// splitTCB reads a TCB_VERSION (ABI 56860, table TCB_VERSION), whose layout
// differs from Turin on. reserved is true when a byte that must be zero is
// not.
func splitTCB(v uint64, p product) (t TCB, reserved bool) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if p == turin {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]},
			b[4]|b[5]|b[6] != 0
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]},
		b[2]|b[3]|b[4]|b[5] != 0
}

// firstBelow returns the first component in which t is below minimum.
func (t TCB) firstBelow(minimum TCB) (component, bool) {
	for _, c := range components {
		if c.of(t) < c.of(minimum) {
			return c, true
		}
	}
	return component{}, false
}

// firstDifferent returns the first component in which t and u differ.
func (t TCB) firstDifferent(u TCB) (component, bool) {
	for _, c := range components {
		if c.of(t) != c.of(u) {
			return c, true
		}
	}
	return component{}, false
}

// claim returns t for claims. FMC exists from Turin on.
func (t TCB) claim(p product) map[string]int64 {
	m := make(map[string]int64, len(components))
	for _, c := range components {
		if c.name != "fmc" || p == turin {
			m[c.name] = int64(c.of(t))
		}
	}
	return m
}
