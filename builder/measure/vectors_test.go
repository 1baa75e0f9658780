package measure

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

func reader(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// launchVector is one line of launch-digests.json: an absent field is an
// absent input, an empty one an empty input.
type launchVector struct {
	Name          string
	VMM           VMM
	VCPUs         int
	VCPUType      string
	GuestFeatures string
	Kernel        *string
	Initrd        *string
	Cmdline       *string
	FirmwareHash  string
	LaunchDigest  string
}

func optional(s *string) io.Reader {
	if s == nil {
		return nil
	}
	return strings.NewReader(*s)
}

func TestPublishedLaunchDigests(t *testing.T) {
	firmware := vectors.Evidence(t, "sev-snp/ovmf-amdsev-suffix.bin")
	var published []launchVector
	if err := json.Unmarshal(vectors.Evidence(t, "sev-snp/launch-digests.json"), &published); err != nil {
		t.Fatal(err)
	}
	if len(published) == 0 {
		t.Fatal("launch-digests.json holds no vectors")
	}
	for _, v := range published {
		t.Run(v.Name, func(t *testing.T) {
			features, err := strconv.ParseUint(v.GuestFeatures, 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			in := SNPInput{
				Mode: ModeSNP, VMM: v.VMM, Firmware: reader(firmware),
				VCPUs: v.VCPUs, VCPUType: v.VCPUType, GuestFeatures: features,
				Kernel: optional(v.Kernel), Initrd: optional(v.Initrd), Cmdline: v.Cmdline,
			}
			if v.FirmwareHash != "" {
				b, err := hex.DecodeString(v.FirmwareHash)
				if err != nil {
					t.Fatal(err)
				}
				in.FirmwareHash = (*[48]byte)(b)
			}
			wantDigest(t, in, v.LaunchDigest)
		})
	}
}

// TestMoreLaunchDigests holds vectors over the same firmware that the tests of
// virtee/sev-snp-measure and its ports publish (Apache-2.0).
func TestMoreLaunchDigests(t *testing.T) {
	firmware := vectors.Evidence(t, "sev-snp/ovmf-amdsev-suffix.bin")
	empty, console := "", "console=ttyS0 loglevel=7"
	for _, v := range []struct {
		name     string
		mode     Mode
		vmm      VMM
		vcpus    int
		features uint64
		kernel   bool
		initrd   bool
		cmdline  *string
		want     string
	}{
		{"snp only, no kernel", ModeSNP, VMMQEMU, 1, 1, false, false, nil, "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d"},
		{"snp only, 4 vcpus, empty cmdline", ModeSNP, VMMQEMU, 4, 1, true, true, &empty, "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5"},
		{"snp only, 4 vcpus", ModeSNP, VMMQEMU, 4, 1, true, true, &console, "ef493c232fc8fac47f485398e3873a84ac5c45570bcd8a34aba093c084060534d633824df94b9eba33dc3a3052ae565a"},
		{"gce", ModeSNP, VMMGCE, 1, 1, true, true, &empty, "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e"},
		{"gce, 4 vcpus", ModeSNP, VMMGCE, 4, 1, true, true, &empty, "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d"},
		{"sev-es", ModeSEVES, VMMQEMU, 1, 0, true, true, &empty, "13810ae661ea11e2bb205621f582fee268f0367c8f97bc297b7fadef3e12002c"},
		{"sev-es, 4 vcpus", ModeSEVES, VMMQEMU, 4, 0, true, true, &empty, "0dccbcaba8e90b261bd0d2e1863a2f9da714768b7b2a19363cd6ae35aa90de91"},
		{"sev", ModeSEV, VMMQEMU, 0, 0, true, true, &console, "82a3ee5d537c3620628270c292ae30cb40c3c878666a7890ee7ef2a08fb535ff"},
		{"sev, kernel alone", ModeSEV, VMMQEMU, 0, 0, true, false, nil, "77f613d7bbcdf12a73782ea9e88b0172aeda50d1a54201cb903594ff52846898"},
	} {
		t.Run(v.name, func(t *testing.T) {
			in := SNPInput{Mode: v.mode, VMM: v.vmm, Firmware: reader(firmware), VCPUs: v.vcpus, GuestFeatures: v.features, Cmdline: v.cmdline}
			if v.mode != ModeSEV && v.vmm == VMMQEMU {
				in.VCPUType = "EPYC-v4"
			}
			if v.kernel {
				in.Kernel = strings.NewReader("")
			}
			if v.initrd {
				in.Initrd = strings.NewReader("")
			}
			wantDigest(t, in, v.want)
		})
	}
}

// TestSVSMLaunchDigests: the first digest is what an actual launch gave.
func TestSVSMLaunchDigests(t *testing.T) {
	firmware, svsm := vectors.Evidence(t, "sev-snp/svsm_ovmf.fd"), vectors.Evidence(t, "sev-snp/svsm.bin")
	for vcpus, want := range map[int]string{
		4: "27d154c27b7b359c935e250ec6fee72aa0ae8c1225e3b0e1cf46a9567e938066d7d6f94bbdc4a857818bdb79277a44b2",
		2: "9b94745036aafddf4f7f8b00c7513abb5b7703178cb95aaa57928bd963d68d3bfcb715d6019b9167ee2517b11b0d9be7",
	} {
		wantDigest(t, SNPInput{
			Mode: ModeSNP, VMM: VMMQEMU, Firmware: reader(firmware), SVSM: reader(svsm), VarsSize: 540672,
			VCPUs: vcpus, VCPUType: "EPYC-v4", GuestFeatures: 0x21,
		}, want)
	}
}

func wantDigest(t *testing.T, in SNPInput, want string) {
	t.Helper()
	r, err := SNP(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Registers["launchDigest"]; got != want {
		t.Errorf("launch digest is %s, want %s", got, want)
	}
	if last := r.Events[len(r.Events)-1].Digest; last != want {
		t.Errorf("the last event ends at %s, want %s", last, want)
	}
}
