package sevsnp

import (
	"encoding/binary"
	"math/big"

	"github.com/google/go-sev-guest/abi"
)

// Signing keys that a report can name (ABI 56860, ATTESTATION_REPORT, bits 4:2
// of offset 48h).
const (
	signedByVCEK = 0
	signedByVLEK = 1
	signedByNone = 7
)

// report is an attestation report, decoded and not judged: whatever 1184 bytes
// hold, decode reads them. Offsets are those of the table ATTESTATION_REPORT
// in the ABI; integers are little-endian there.
type report struct {
	raw []byte

	version       uint32
	guestSVN      uint32
	guestPolicy   uint64
	familyID      []byte
	imageID       []byte
	vmpl          uint32
	signatureAlgo uint32
	current       uint64 // CURRENT_TCB
	platformInfo  uint64
	signer        uint32
	reportData    []byte
	launchDigest  []byte
	hostData      []byte
	idKeyDigest   []byte
	authorDigest  []byte
	reportID      []byte
	reportIDMA    []byte
	reported      uint64 // REPORTED_TCB
	family        byte   // version 3 and later
	model         byte
	stepping      byte
	chipID        []byte
	committed     uint64 // COMMITTED_TCB
	currentFW     firmware
	committedFW   firmware
	launch        uint64 // LAUNCH_TCB
	launchMit     uint64 // version 4 and later
	currentMit    uint64
}

// firmware is a version of the SEV-SNP firmware.
type firmware struct{ major, minor, build byte }

// above says whether f is a later version than g.
func (f firmware) above(g firmware) bool {
	order := func(f firmware) uint32 {
		return uint32(f.major)<<16 | uint32(f.minor)<<8 | uint32(f.build)
	}
	return order(f) > order(g)
}

// decode reads a report of exactly abi.ReportSize bytes. The result's slices
// are parts of raw.
func decode(raw []byte) report {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(raw[at:]) }
	r := report{
		raw:           raw,
		version:       u32(0x00),
		guestSVN:      u32(0x04),
		guestPolicy:   u64(0x08),
		familyID:      raw[0x10:0x20],
		imageID:       raw[0x20:0x30],
		vmpl:          u32(0x30),
		signatureAlgo: u32(0x34),
		current:       u64(0x38),
		platformInfo:  u64(0x40),
		signer:        u32(0x48),
		reportData:    raw[0x50:0x90],
		launchDigest:  raw[0x90:0xC0],
		hostData:      raw[0xC0:0xE0],
		idKeyDigest:   raw[0xE0:0x110],
		authorDigest:  raw[0x110:0x140],
		reportID:      raw[0x140:0x160],
		reportIDMA:    raw[0x160:0x180],
		reported:      u64(0x180),
		chipID:        raw[0x1A0:0x1E0],
		committed:     u64(0x1E0),
		currentFW:     firmware{build: raw[0x1E8], minor: raw[0x1E9], major: raw[0x1EA]},
		committedFW:   firmware{build: raw[0x1EC], minor: raw[0x1ED], major: raw[0x1EE]},
		launch:        u64(0x1F0),
	}
	if r.version >= 3 {
		r.family, r.model, r.stepping = raw[0x188], raw[0x189], raw[0x18A]
	}
	if r.version >= 4 {
		r.launchMit, r.currentMit = u64(0x1F8), u64(0x200)
	}
	return r
}

// reserved returns the ranges of bytes that must be zero in a report of this
// version.
func (r *report) reserved() [][2]int {
	ranges := [][2]int{
		{0x4C, 0x50},
		{0x188, 0x1A0},
		{0x1EB, 0x1EC},
		{0x1EF, 0x1F0},
		{0x1F8, 0x2A0},
		// After r and s, 72 bytes each (ABI, table ECDSA P-384 signature).
		{0x330, 0x4A0},
	}
	if r.version >= 3 {
		ranges[1][0] = 0x18B // family, model and stepping before it
	}
	if r.version >= 4 {
		ranges[4][0] = 0x208 // mitigation vectors before it
	}
	return ranges
}

func (r *report) debug() bool          { return r.guestPolicy>>19&1 == 1 }
func (r *report) migrationAgent() bool { return r.guestPolicy>>18&1 == 1 }
func (r *report) chipKeyMasked() bool  { return r.signer>>1&1 == 1 }
func (r *report) signingKey() uint32   { return r.signer >> 2 & 7 }

// signed returns the bytes that the signature covers.
func (r *report) signed() []byte { return abi.SignedComponent(r.raw) }

// signature returns the two integers of the ECDSA signature.
func (r *report) signature() (rr, s *big.Int) {
	const at, size = 0x2A0, 72
	return abi.AmdBigInt(r.raw[at : at+size]), abi.AmdBigInt(r.raw[at+size : at+2*size])
}

// bit names one bit of a field.
type bit struct {
	at   int
	name string
}

// Bits of the guest policy (ABI, table GUEST_POLICY). Bit 17 is always one.
var guestPolicyBits = []bit{
	{16, "smtAllowed"},
	{18, "migrationAgentAllowed"},
	{19, "debugAllowed"},
	{20, "singleSocketOnly"},
	{21, "cxlAllowed"},
	{22, "memoryAES256XTSRequired"},
	{23, "raplDisableRequired"},
	{24, "ciphertextHidingRequired"},
	{25, "pageSwapDisabled"},
}

const (
	guestPolicyMustBeOne  = 1 << 17
	guestPolicyMustBeZero = ^uint64(1<<26 - 1)
)

// Bits of the platform information (ABI, table PLATFORM_INFO).
var platformInfoBits = []bit{
	{0, "smtEnabled"},
	{1, "tsmeEnabled"},
	{2, "eccEnabled"},
	{3, "raplDisabled"},
	{4, "ciphertextHidingEnabled"},
	{5, "aliasCheckComplete"},
	{7, "tioEnabled"},
}

const platformInfoReserved = ^uint64(0b1011_1111)

// signerReserved are the bits of offset 48h above the signing key.
const signerReserved = ^uint32(0b1_1111)
