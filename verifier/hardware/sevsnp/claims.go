package sevsnp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// unseen names what in this evidence was never compared with a real sample.
// Real ones are at hand of Milan's reports of version 2, signed by a VCEK.
func (a *appraisal) unseen() []string {
	var u []string
	if a.report.version != 2 {
		u = append(u, fmt.Sprintf("report version %d", a.report.version))
	}
	if a.product != milan {
		u = append(u, "product line "+string(a.product))
	}
	if a.ekName == hardware.VLEK {
		u = append(u, "report signed by a VLEK")
	}
	return u
}

// level is one of the TCB versions that a report gives.
type level struct {
	name string
	raw  uint64
}

func (a *appraisal) levels() []level {
	return []level{
		{"reported", a.report.reported},
		{"committed", a.report.committed},
		{"launch", a.report.launch},
		{"current", a.report.current},
	}
}

// claims says what the report says, after every check.
func (a *appraisal) claims() *hardware.Claims {
	r := &a.report
	c := &hardware.Claims{
		Platform:  hardware.SEVSNP,
		Isolation: hardware.Confidential,
		Unseen:    a.unseen(),
		Registers: map[string]string{
			"launchDigest": hex.EncodeToString(r.launchDigest),
			"guestPolicy":  hex.EncodeToString(binary.BigEndian.AppendUint64(nil, r.guestPolicy)),
			"vmpl":         hex.EncodeToString(binary.BigEndian.AppendUint32(nil, r.vmpl)),
			"hostData":     hex.EncodeToString(r.hostData),
			"idKeyDigest":  hex.EncodeToString(r.idKeyDigest),
		},
		UserData: append([]byte(nil), r.reportData...),
		TCB:      make(map[string]map[string]int64, 4),
		Flags: map[string]bool{
			"authorKeyEnabled":    r.signer&1 == 1,
			"provisionalFirmware": r.committed != r.current || r.committedFW != r.currentFW,
		},
	}
	if !a.arkBuiltIn {
		c.Simulated, c.Isolation = true, hardware.None
	}
	for _, l := range a.levels() {
		t, _ := splitTCB(l.raw, a.product)
		c.TCB[l.name] = t.claim(a.product)
	}
	for _, b := range guestPolicyBits {
		c.Flags[b.name] = r.guestPolicy>>b.at&1 == 1
	}
	for _, b := range platformInfoBits {
		c.Flags[b.name] = r.platformInfo>>b.at&1 == 1
	}
	fact := func(name, format string, args ...any) {
		c.Facts = append(c.Facts, hardware.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	fact("reportVersion", "%d", r.version)
	fact("product", "%s", a.product)
	fact("productName", "%s", a.exts.productName)
	if r.version >= 3 {
		fact("processor", "family %#x, model %#x, stepping %d", r.family, r.model, r.stepping)
	}
	fact("signingKey", "%s", strings.ToUpper(a.ekName))
	if a.exts.cspID != "" {
		fact("cspID", "%s", a.exts.cspID)
	}
	fact("chipID", "%x", r.chipID)
	fact("guestSVN", "%d", r.guestSVN)
	fact("minimumABI", "%d.%d", byte(r.guestPolicy>>8), byte(r.guestPolicy))
	fact("familyID", "%x", r.familyID)
	fact("imageID", "%x", r.imageID)
	fact("authorKeyDigest", "%x", r.authorDigest)
	fact("reportID", "%x", r.reportID)
	fact("currentFirmware", "%s", r.currentFW)
	fact("committedFirmware", "%s", r.committedFW)
	if r.version >= 4 {
		fact("launchMitigations", "%#x", r.launchMit)
		fact("currentMitigations", "%#x", r.currentMit)
	}
	fact("root", "%s, SHA-256 %x", a.ark.Subject, sha256.Sum256(a.ark.Raw))
	fact("certificateValid", "%s to %s", stamp(a.ek.NotBefore), stamp(a.ek.NotAfter))
	if a.crl != nil {
		fact("revocationList", "%s to %s", stamp(a.crl.ThisUpdate), stamp(a.crl.NextUpdate))
	}
	return c
}
