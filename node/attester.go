package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

// The platforms of the attesters in this package, as evidence names them.
const (
	PlatformSNP = "sev-snp"
	PlatformTPM = "tpm"
)

// Attester is the hardware under the node: what it measured, and how to have
// it vouch for that. The node calls one method at a time.
type Attester interface {
	// Platform returns the platform's name in evidence, such as "sev-snp".
	Platform() string
	// Registers returns the values of the platform's mandatory registers, as
	// lower-case hex by name.
	Registers(ctx context.Context) (map[string]string, error)
	// Attest has the hardware vouch for its registers together with H, the
	// 64 bytes of user data.
	Attest(ctx context.Context, h [64]byte) (*Attestation, error)
}

// Attestation is what hardware says: a report or a quote, whichever the
// platform has, and the endorsements that the machine itself holds.
type Attestation struct {
	Report       []byte
	Quote        *evidence.Quote
	Endorsements []evidence.Endorsement
}

// hostConfiguration names, for each platform, the registers in which a host
// can hand a guest a configuration at launch. A node that takes none refuses a
// value there: it would run with something that it ignores and that its
// release cannot explain.
var hostConfiguration = map[string][]string{
	"sev-snp": {"hostData"},
	"tdx":     {"mrConfigId", "mrOwner", "mrOwnerConfig"},
	"tpm":     {"pcr15"},
}

// refuseHostConfiguration returns an error unless the registers in which a
// host hands over a configuration are zero.
func refuseHostConfiguration(platform string, registers map[string]string) error {
	for _, name := range hostConfiguration[platform] {
		if value := registers[name]; strings.Trim(value, "0") != "" {
			return fmt.Errorf("the host set %s to %s: this node takes its configuration from its image alone; start the machine without one", name, value)
		}
	}
	return nil
}

// checkRegisters holds an attester to its contract: each mandatory register of
// the platform, and nothing else, in its length.
func checkRegisters(platform string, registers map[string]string) error {
	want := statement.MandatoryRegisters(platform)
	if len(want) == 0 {
		return fmt.Errorf("the platform %q has no registers in this version", platform)
	}
	for _, name := range want {
		value, ok := registers[name]
		if !ok {
			return fmt.Errorf("the attester did not read the register %s of %s", name, platform)
		}
		length, _ := statement.RegisterBytes(platform, name)
		b, err := hex.DecodeString(value)
		if err != nil || len(b) != length || strings.ToLower(value) != value {
			return fmt.Errorf("the attester read %q from the register %s of %s: not %d bytes in lower-case hex",
				value, name, platform, length)
		}
	}
	for name := range registers {
		if !slices.Contains(want, name) {
			return fmt.Errorf("the attester read %s, which is not a mandatory register of %s", name, platform)
		}
	}
	return nil
}
