package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// testFirmware is what a test builds an OVMF-shaped image from.
type testFirmware struct {
	pages    int
	entries  map[guid][]byte
	sections []metadataSection
}

// amdSev is a firmware with everything that SNP with a kernel needs.
func amdSev() testFirmware {
	return testFirmware{
		pages: 2,
		entries: map[guid][]byte{
			guidSEVHashTable: append(le32(0x810c00), le32(0x400)...),
			guidSEVESReset:   le32(0x80b004),
		},
		sections: []metadataSection{
			{sectionMemory, 0x800000, 0x2000},
			{sectionSecrets, 0x80d000, pageSize},
			{sectionCPUID, 0x80e000, pageSize},
			{sectionKernelHashes, 0x810000, pageSize},
		},
	}
}

func (f testFirmware) build() []byte {
	b := make([]byte, f.pages*pageSize)
	table := append([]byte(nil), tableOf(f)...)
	copy(b[len(b)-32-len(table):], table)
	at := len(b) - 0x400
	meta := append([]byte(metadataSignature), le32(uint32(16+12*len(f.sections)))...)
	meta = append(append(meta, le32(1)...), le32(uint32(len(f.sections)))...)
	for _, s := range f.sections {
		meta = append(append(append(meta, le32(uint32(s.gpa))...), le32(uint32(s.size))...), le32(uint32(s.kind))...)
	}
	copy(b[at:], meta)
	return b
}

func tableOf(f testFirmware) []byte {
	var table []byte
	add := func(id guid, data []byte) {
		table = append(append(append(table, data...), le16(uint16(len(data)+18))...), id[:]...)
	}
	if f.sections != nil {
		add(guidSEVMetadata, le32(0x400))
	}
	for _, id := range []guid{guidSEVHashTable, guidSEVESReset, guidSVSMInfo} {
		if data, there := f.entries[id]; there {
			add(id, data)
		}
	}
	table = append(table, le16(uint16(len(table)+18))...)
	return append(table, guidTableFooter[:]...)
}

// Offsets from the end of a built firmware.
const (
	fromEndFooterLength = 32 + 16 + 2
	fromEndMetadata     = 0x400
)

func qemu(firmware []byte) SNPInput {
	return SNPInput{Mode: ModeSNP, VMM: VMMQEMU, Firmware: reader(firmware), VCPUs: 1, VCPUType: "EPYC-Milan", GuestFeatures: 1}
}

func TestHostileFirmware(t *testing.T) {
	good := amdSev().build()
	if _, err := parseFirmware(reader(good), fourGiB); err != nil {
		t.Fatal(err)
	}
	end := len(good)
	meta := end - fromEndMetadata
	with := func(change func(*testFirmware)) []byte {
		f := amdSev()
		change(&f)
		return f.build()
	}
	// The last entry before the footer is the reset block: 4 bytes of data.
	resetLength := end - fromEndFooterLength - 18
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "whole pages"},
		{"half a page", good[:pageSize+100], "whole pages"},
		{"too large", make([]byte, maxFirmwareSize+pageSize), "whole pages"},
		{"table longer than file", broken(good, end-fromEndFooterLength, 0xff, 0xff), "it says it is 65535 bytes long"},
		{"entry longer than table", broken(good, resetLength, 0xff, 0xff), "it says it is 65535 bytes long"},
		{"entry without length", broken(good, resetLength, 0, 0), "it says it is 0 bytes long"},
		{"entry shorter than its header", broken(good, resetLength, 17, 0), "it says it is 17 bytes long"},
		{"half an entry", broken(good, end-fromEndFooterLength, le16(18+22+5)...), "5 bytes are left"},
		{"same entry twice", broken(good, resetLength+2-22, guidSEVESReset[:]...), "the GUID of another entry"},
		{"metadata before file", broken(good, end-32-len(tableOf(amdSev())), le32(uint32(end+1))...), "is said to lie 0x2001 bytes before the end"},
		{"metadata wraps", broken(good, end-32-len(tableOf(amdSev())), le32(0xffffffff)...), "is said to lie 0xffffffff"},
		{"metadata at the very end", broken(good, end-32-len(tableOf(amdSev())), le32(4)...), "is said to lie 0x4 bytes"},
		{"no signature", broken(good, meta, 'X'), "does not begin with ASEV"},
		{"version", broken(good, meta+8, 2), "has version 2"},
		{"count", broken(good, meta+12, le32(0xffffffff)...), "counts 4294967295 sections"},
		{"count wraps to length", broken(good, meta+12, le32(0x55555559)...), "do not fit"},
		{"length", broken(good, meta+4, le32(0xffffffff)...), "do not fit"},
		{"unknown kind", with(func(f *testFirmware) { f.sections[0].kind = 9 }), "unknown (0x9)"},
		{"unaligned section", with(func(f *testFirmware) { f.sections[0].gpa++ }), "not made of whole pages"},
		{"empty section", with(func(f *testFirmware) { f.sections[0].size = 0 }), "not made of whole pages"},
		{"section beyond 4 GiB", with(func(f *testFirmware) { f.sections[0] = metadataSection{sectionMemory, 0xfffff000, 0xfffff000} }), "overlaps the image itself or ends above"},
		{"section over the image", with(func(f *testFirmware) { f.sections[0].gpa = fourGiB - 2*pageSize }), "overlaps the image itself"},
		{"overlapping sections", with(func(f *testFirmware) { f.sections[1].gpa = 0x801000 }), "overlaps another"},
		{"two secrets pages", with(func(f *testFirmware) { f.sections[1].size = 2 * pageSize }), "not one page"},
		{"two pages of hashes", with(func(f *testFirmware) { f.sections[3].size = 2 * pageSize }), "not one page"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseFirmware(reader(test.file), fourGiB); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestFirmwareWithoutTable(t *testing.T) {
	f, err := parseFirmware(reader(make([]byte, pageSize)), fourGiB)
	if err != nil || len(f.table) != 0 || len(f.sections) != 0 {
		t.Errorf("a blank firmware has table %v and sections %v (%v)", f.table, f.sections, err)
	}
	if f.gpa != fourGiB-pageSize {
		t.Errorf("a firmware of one page lies at %#x", f.gpa)
	}
}

func TestSNPRefuses(t *testing.T) {
	good := amdSev().build()
	cmdline, nul := "quiet", "a\x00b"
	with := func(change func(*SNPInput)) SNPInput {
		in := qemu(good)
		change(&in)
		return in
	}
	withFirmware := func(change func(*testFirmware)) SNPInput {
		f := amdSev()
		change(&f)
		in := qemu(f.build())
		in.Kernel = strings.NewReader("kernel")
		return in
	}
	kernel := func() io.Reader { return strings.NewReader("kernel") }
	for _, test := range []struct {
		name string
		in   SNPInput
		want string
	}{
		{"nothing", SNPInput{}, `the mode "" is not known`},
		{"no VMM", with(func(in *SNPInput) { in.VMM = "" }), `the VMM "" is not known`},
		{"no firmware", with(func(in *SNPInput) { in.Firmware = nil }), "no firmware was given"},
		{"initrd alone", with(func(in *SNPInput) { in.Initrd = kernel() }), "without a kernel"},
		{"command line alone", with(func(in *SNPInput) { in.Cmdline = &cmdline }), "without a kernel"},
		{"no vCPUs", with(func(in *SNPInput) { in.VCPUs = 0 }), "the number of vCPUs is 0"},
		{"many vCPUs", with(func(in *SNPInput) { in.VCPUs = 4097 }), "the number of vCPUs is 4097"},
		{"no vCPU type", with(func(in *SNPInput) { in.VCPUType = "" }), "neither a vCPU type nor"},
		{"both vCPU types", with(func(in *SNPInput) { in.VCPUSignature = 1 }), "both a vCPU type and"},
		{"unknown vCPU type", with(func(in *SNPInput) { in.VCPUType = "Opteron" }), `the vCPU type "Opteron" is not known; known are EPYC-IBPB, EPYC`},
		{"features without SNP", with(func(in *SNPInput) { in.GuestFeatures = 0x20 }), "lack bit 0"},
		{"SEV-ES with features", with(func(in *SNPInput) { in.Mode = ModeSEVES }), `mode "sev-es" has none`},
		{"SEV with launch parameters", with(func(in *SNPInput) { in.Mode, in.GuestFeatures, in.Launch = ModeSEV, 0, new(Launch) }), `mode "sev" has none`},
		{"SVSM with a kernel", with(func(in *SNPInput) { in.SVSM, in.Kernel = reader(good), kernel() }), "without a kernel"},
		{"SVSM on EC2", with(func(in *SNPInput) { in.SVSM, in.VMM = reader(good), VMMEC2 }), "with SEV-SNP on QEMU"},
		{"variables without SVSM", with(func(in *SNPInput) { in.VarsSize = pageSize }), "without an SVSM"},
		{"odd variables", with(func(in *SNPInput) { in.SVSM, in.VarsSize = reader(good), 5 }), "not a number of whole pages"},
		{"negative variables", with(func(in *SNPInput) { in.SVSM, in.VarsSize = reader(good), -pageSize }), "not a number of whole pages"},
		{"SVSM without start", with(func(in *SNPInput) { in.SVSM = reader(good) }), "no entry for the SVSM's start"},
		{"NUL in the command line", with(func(in *SNPInput) { in.Kernel, in.Cmdline = kernel(), &nul }), "free of NUL"},
		{"kernel that cannot be read", with(func(in *SNPInput) { in.Kernel = failingReader{} }), "hashing the kernel: disk on fire"},
		{"no place for hashes", withFirmware(func(f *testFirmware) { delete(f.entries, guidSEVHashTable) }), "no page for the hashes of a kernel"},
		{"place for hashes at zero", withFirmware(func(f *testFirmware) { f.entries[guidSEVHashTable] = make([]byte, 8) }), "no page for the hashes of a kernel"},
		{"no section for hashes", withFirmware(func(f *testFirmware) { f.sections = f.sections[:3] }), "no page for the hashes of a kernel"},
		{"no metadata", withFirmware(func(f *testFirmware) { f.sections = nil }), "no page for the hashes of a kernel"},
		{"short entry for hashes", withFirmware(func(f *testFirmware) { f.entries[guidSEVHashTable] = le32(1) }), "has 4 bytes, not 8"},
		{"small place for hashes", withFirmware(func(f *testFirmware) { f.entries[guidSEVHashTable] = append(le32(0x810c00), le32(100)...) }), "too few for a table"},
		{"hashes before their page", withFirmware(func(f *testFirmware) { f.entries[guidSEVHashTable] = append(le32(0x80fff0), le32(0x400)...) }), "lies outside the metadata section"},
		{"hashes beyond their page", withFirmware(func(f *testFirmware) { f.entries[guidSEVHashTable] = append(le32(0x810c00), le32(0x401)...) }), "lies outside the metadata section"},
		{"no start for more vCPUs", func() SNPInput {
			f := amdSev()
			delete(f.entries, guidSEVESReset)
			in := qemu(f.build())
			in.VCPUs = 2
			return in
		}(), "no entry for the start of further vCPUs"},
		{"short start for more vCPUs", func() SNPInput {
			f := amdSev()
			f.entries[guidSEVESReset] = []byte{1}
			in := qemu(f.build())
			in.VCPUs = 2
			return in
		}(), "too few for an address"},
		{"SVSM that starts beyond itself", func() SNPInput {
			f := amdSev()
			f.entries[guidSVSMInfo] = le32(0x2000)
			in := qemu(good)
			in.SVSM = reader(f.build())
			return in
		}(), "0x2000 bytes into an image of 0x2000 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := SNP(test.in); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

// TestDebianFirmwareMeasuresNoKernel: a host could exchange the kernel under
// Debian's OVMF, and the launch digest would not move.
func TestDebianFirmwareMeasuresNoKernel(t *testing.T) {
	found := false
	for _, path := range []string{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/ovmf/OVMF.fd"} {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found = true
		in := qemu(b)
		if _, err := SNP(in); err != nil {
			t.Errorf("%s without a kernel: %v", path, err)
		}
		for _, mode := range []Mode{ModeSNP, ModeSEVES, ModeSEV} {
			in := qemu(b)
			in.Mode, in.Kernel = mode, strings.NewReader("kernel")
			if mode != ModeSNP {
				in.GuestFeatures = 0
			}
			if _, err := SNP(in); !errors.Is(err, errNoHashesPage) {
				t.Errorf("%s with a kernel in mode %s: the error is %v", path, mode, err)
			}
		}
	}
	if !found {
		t.Skip("the package ovmf is not installed")
	}
}

// TestAbsentIsNotEmpty: no kernel leaves the page for hashes zero, an empty one
// puts its hash there.
func TestAbsentIsNotEmpty(t *testing.T) {
	digest := func(kernel, initrd io.Reader, cmdline *string) string {
		in := qemu(amdSev().build())
		in.Kernel, in.Initrd, in.Cmdline = kernel, initrd, cmdline
		r, err := SNP(in)
		if err != nil {
			t.Fatal(err)
		}
		return r.Registers["launchDigest"]
	}
	empty, blank := "", " "
	none := digest(nil, nil, nil)
	kernel := digest(strings.NewReader(""), nil, nil)
	if none == kernel {
		t.Error("an absent and an empty kernel have the same launch digest")
	}
	// QEMU hashes an absent initrd and command line as empty ones.
	if kernel != digest(strings.NewReader(""), strings.NewReader(""), &empty) {
		t.Error("QEMU's table has empty hashes for what is absent, and the launch digest differs")
	}
	if kernel == digest(strings.NewReader(""), nil, &blank) {
		t.Error("a blank is not part of the launch digest")
	}
}

func TestSNPResult(t *testing.T) {
	in := qemu(amdSev().build())
	cmdline := "quiet"
	in.Kernel, in.Cmdline, in.VCPUs = strings.NewReader("kernel"), &cmdline, 3
	in.Launch = &Launch{GuestPolicy: 0x30000, VMPL: 2, HostData: [32]byte{31: 1}, IDKeyDigest: [48]byte{47: 2}}
	r, err := SNP(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"guestPolicy": "0000000000030000",
		"vmpl":        "00000002",
		"hostData":    strings.Repeat("0", 63) + "1",
		"idKeyDigest": strings.Repeat("0", 95) + "2",
	} {
		if r.Registers[name] != want {
			t.Errorf("%s is %s, want %s", name, r.Registers[name], want)
		}
	}
	if len(r.Registers["launchDigest"]) != 96 || len(r.Undetermined) != 0 || r.Platform != "sev-snp" {
		t.Errorf("the result is %+v", r)
	}
	var names []string
	for _, input := range r.Inputs {
		names = append(names, input.Name)
	}
	if got := strings.Join(names, " "); got != "firmware kernel initrd cmdline" {
		t.Errorf("inputs are %q", got)
	}
	if got := r.Inputs[3]; got.Size != 6 {
		t.Errorf("the command line's hash covers %d bytes, want 6 with the NUL", got.Size)
	}
	if b, err := json.Marshal(r); err != nil || !bytes.Contains(b, []byte(`"register":"launchDigest"`)) {
		t.Errorf("the JSON is %s (%v)", b, err)
	}
	in.Kernel, in.Launch = strings.NewReader("kernel"), nil
	if r, err = SNP(in); err != nil || len(r.Undetermined) != 4 || len(r.Registers) != 1 {
		t.Errorf("without launch parameters the result is %+v (%v)", r, err)
	}
}

func TestVCPUSignature(t *testing.T) {
	for name, want := range map[string]uint32{
		"EPYC": 0x800f12, "EPYC-v4": 0x800f12, "EPYC-IBPB": 0x800f12,
		"EPYC-Rome": 0x830f10, "EPYC-Rome-v2": 0x830f10,
		"EPYC-Milan": 0xa00f11, "EPYC-Milan-v3": 0xa00f11,
		"EPYC-Genoa": 0xa10f10, "EPYC-Genoa-v2": 0xa10f10,
		"EPYC-Turin": 0xb00f00, "EPYC-Turin-v1": 0xb00f00,
	} {
		if got, err := VCPUSignature(name); err != nil || got != want {
			t.Errorf("%s has signature %#x (%v), want %#x", name, got, err, want)
		}
	}
	for _, name := range []string{"", "epyc", "EPYC-v0", "EPYC-v01", "EPYC-v6", "EPYC-v", "EPYC-Turin-v2", "EPYC-IBPB-v1", "EPYC-v1-v1", "host"} {
		if got, err := VCPUSignature(name); err == nil {
			t.Errorf("%q has signature %#x", name, got)
		}
	}
	// A signature that is given by number is the same machine.
	named, numbered := qemu(amdSev().build()), qemu(amdSev().build())
	numbered.VCPUType, numbered.VCPUSignature = "", 0xa00f11
	a, errA := SNP(named)
	b, errB := SNP(numbered)
	if errA != nil || errB != nil || a.Registers["launchDigest"] != b.Registers["launchDigest"] {
		t.Errorf("EPYC-Milan and its signature differ (%v, %v)", errA, errB)
	}
}

// TestVCPUSignaturesOfQEMU asks the QEMU that is installed for the models that
// it knows.
func TestVCPUSignaturesOfQEMU(t *testing.T) {
	tool, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	known := 0
	for line := range cpuModels {
		commands := `{"execute":"qmp_capabilities"}{"execute":"query-cpu-model-expansion","arguments":{"type":"full","model":{"name":"` + line + `"}}}{"execute":"quit"}`
		command := exec.Command(tool, "-machine", "none", "-display", "none", "-nodefaults", "-S", "-qmp", "stdio")
		command.Stdin = strings.NewReader(commands)
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
			var answer struct {
				Return struct {
					Model struct {
						Props struct{ Family, Model, Stepping *uint32 }
					}
				}
			}
			if err := decoder.Decode(&answer); err != nil {
				t.Fatal(err)
			}
			p := answer.Return.Model.Props
			if p.Family == nil || p.Model == nil || p.Stepping == nil {
				continue
			}
			known++
			if want := cpuSignature(*p.Family, *p.Model, *p.Stepping); cpuModels[line].signature != want {
				t.Errorf("%s has signature %#x here and %#x in QEMU", line, cpuModels[line].signature, want)
			}
		}
	}
	if known == 0 {
		t.Error("QEMU told the signature of no model")
	}
}
