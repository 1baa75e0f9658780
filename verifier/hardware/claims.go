package hardware

import "slices"

// Platforms for which this module can appraise evidence, by the names of
// docs/formats.md.
const (
	SEVSNP = "sev-snp"
	TPM    = "tpm"
)

// Isolation says against whom the measured machine is protected.
type Isolation string

const (
	// Confidential: memory and registers of the machine are out of the reach
	// of whoever hosts it, by the word of a vendor's root that is built in.
	Confidential Isolation = "confidential"
	// None: the machine was measured and nothing more. Its host can read and
	// change everything; a virtual TPM and every simulated root end here.
	None Isolation = "none"
)

// Claims is what genuine evidence says, in one shape for all platforms. A
// value of this type exists only after every check of its platform has passed.
type Claims struct {
	// Platform is the platform's name in docs/formats.md.
	Platform string `json:"platform"`
	// Isolation is what the hardware protects the machine from.
	Isolation Isolation `json:"isolation"`
	// Simulated is true when the root of trust is not one that is built in.
	// Isolation is then None.
	Simulated bool `json:"simulated"`
	// Unseen names what in this evidence was never compared with a real
	// sample: it was accepted by specification alone, and only because an
	// option admitted it.
	Unseen []string `json:"unseen,omitempty"`
	// Registers holds every register of the platform's table in
	// docs/formats.md: name to lower-case hex of the table's length.
	Registers map[string]string `json:"registers"`
	// UserData is what the machine asked the hardware to sign: REPORT_DATA of
	// a SEV-SNP report (64 bytes), extraData of a TPM quote (32 bytes).
	UserData []byte `json:"userData"`
	// TCB holds the security patch levels of the platform's firmware: which
	// level ("reported", "committed", "launch", "current") to component to
	// number. Empty where the platform has none.
	TCB map[string]map[string]int64 `json:"tcb,omitempty"`
	// Flags holds what the evidence says with a single bit.
	Flags map[string]bool `json:"flags,omitempty"`
	// Facts holds everything else worth showing, in the evidence's order.
	Facts []Fact `json:"facts,omitempty"`
}

// Fact is one thing that evidence says and that is neither a register nor a
// flag. Names may repeat; events of a log do.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Label is what the sender calls it, such as the type of an event. No
	// signature covers it, whatever Unverified says.
	Label string `json:"label,omitempty"`
	// Unverified is true when the bytes behind Value are covered by no digest
	// that the hardware signed: whoever sent the evidence may have chosen
	// them.
	Unverified bool `json:"unverified,omitempty"`
}

// Fact returns the value of the first fact with that name.
func (c *Claims) Fact(name string) (Fact, bool) {
	i := slices.IndexFunc(c.Facts, func(f Fact) bool { return f.Name == name })
	if i < 0 {
		return Fact{}, false
	}
	return c.Facts[i], true
}
