package statement

import (
	"slices"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// A registerRow is one line of the register table in docs/formats.md.
type registerRow struct {
	platform  string
	register  string
	bytes     int
	mandatory bool
}

// registerTable is the closed list of what a platform measures. A test holds it
// equal to the table in docs/formats.md.
var registerTable = []registerRow{
	{"sev-snp", "launchDigest", 48, true},
	{"sev-snp", "guestPolicy", 8, true},
	{"sev-snp", "vmpl", 4, true},
	{"sev-snp", "hostData", 32, true},
	{"sev-snp", "idKeyDigest", 48, true},
	{"tdx", "mrtd", 48, true},
	{"tdx", "rtmr0", 48, true},
	{"tdx", "rtmr1", 48, true},
	{"tdx", "rtmr2", 48, true},
	{"tdx", "rtmr3", 48, true},
	{"tdx", "tdAttributes", 8, true},
	{"tdx", "xfam", 8, true},
	{"tdx", "mrSeam", 48, true},
	{"tdx", "mrConfigId", 48, true},
	{"tdx", "mrOwner", 48, true},
	{"tdx", "mrOwnerConfig", 48, true},
	{"nitro", "pcr0", 48, true},
	{"nitro", "pcr1", 48, true},
	{"nitro", "pcr2", 48, true},
	{"nitro", "pcr8", 48, true},
	{"tpm", "pcr0", 32, true},
	{"tpm", "pcr2", 32, true},
	{"tpm", "pcr4", 32, true},
	{"tpm", "pcr5", 32, true},
	{"tpm", "pcr7", 32, true},
	{"tpm", "pcr9", 32, true},
	{"tpm", "pcr11", 32, true},
	{"tpm", "pcr12", 32, true},
	{"tpm", "pcr13", 32, true},
	{"tpm", "pcr15", 32, true},
}

// Platforms returns the names of the known platforms.
func Platforms() []string {
	var names []string
	for _, row := range registerTable {
		if !slices.Contains(names, row.platform) {
			names = append(names, row.platform)
		}
	}
	return names
}

// Registers returns the names of all registers of a platform, none for an
// unknown platform.
func Registers(platform string) []string {
	var names []string
	for _, row := range registerTable {
		if row.platform == platform {
			names = append(names, row.register)
		}
	}
	return names
}

// MandatoryRegisters returns the registers that every measurement of the
// platform must name. It is empty for an unknown platform, which is therefore
// not a platform on which everything is allowed: check with [Platforms].
func MandatoryRegisters(platform string) []string {
	var names []string
	for _, row := range registerTable {
		if row.platform == platform && row.mandatory {
			names = append(names, row.register)
		}
	}
	return names
}

// RegisterBytes returns the length of a register's value in bytes, and whether
// the platform has that register.
func RegisterBytes(platform, register string) (int, bool) {
	for _, row := range registerTable {
		if row.platform == platform && row.register == register {
			return row.bytes, true
		}
	}
	return 0, false
}

// CheckRegister checks that a platform has a register and that value could be
// its value: lower-case hex of the register's length.
func CheckRegister(platform, register, value string) error {
	n, ok := RegisterBytes(platform, register)
	switch {
	case ok:
		return checkHex("/"+register, value, n)
	case !slices.Contains(Platforms(), platform):
		return ijson.Errorf("", "%q is not a known platform", ijson.Clip(platform))
	}
	return ijson.Errorf("", "%s has no register %q", platform, ijson.Clip(register))
}
