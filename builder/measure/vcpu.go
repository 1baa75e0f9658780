package measure

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cpuSignature encodes family, model and stepping as CPUID Fn0000_0001_EAX
// does (AMD 25481, "CPUID Specification").
func cpuSignature(family, model, stepping uint32) uint32 {
	extended := uint32(0)
	if family > 0xf {
		extended = family - 0xf
		family = 0xf
	}
	return extended<<20 | model>>4<<16 | family<<8 | model&0xf<<4 | stepping
}

// cpuModel is a line of CPU models of QEMU; all versions of one have the same
// signature.
type cpuModel struct {
	signature uint32
	versions  int
}

// cpuModels are QEMU's AMD server models (QEMU, target/i386/cpu.c,
// builtin_x86_defs).
var cpuModels = map[string]cpuModel{
	"EPYC":       {cpuSignature(23, 1, 2), 5},
	"EPYC-Rome":  {cpuSignature(23, 49, 0), 5},
	"EPYC-Milan": {cpuSignature(25, 1, 1), 3},
	"EPYC-Genoa": {cpuSignature(25, 17, 0), 2},
	"EPYC-Turin": {cpuSignature(26, 0, 0), 1},
}

// VCPUSignature returns the CPUID signature (Fn0000_0001_EAX) of a CPU model by
// its name in QEMU: "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa",
// "EPYC-Turin", each alone or with a version ("EPYC-v4"), and "EPYC-IBPB". An
// unknown name is an error that lists the known ones.
func VCPUSignature(name string) (uint32, error) {
	if name == "EPYC-IBPB" {
		return cpuModels["EPYC"].signature, nil
	}
	if model, known := cpuModels[name]; known {
		return model.signature, nil
	}
	base, version, _ := cutLast(name, "-v")
	if model, known := cpuModels[base]; known {
		for v := 1; v <= model.versions; v++ {
			if version == fmt.Sprint(v) {
				return model.signature, nil
			}
		}
	}
	var known []string
	for _, line := range slices.Sorted(maps.Keys(cpuModels)) {
		known = append(known, fmt.Sprintf("%s (also -v1 to -v%d)", line, cpuModels[line].versions))
	}
	return 0, fmt.Errorf("the vCPU type %q is not known; known are EPYC-IBPB, %s; for another give its CPUID signature", name, strings.Join(known, ", "))
}

// cutLast splits s at the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
