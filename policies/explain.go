package policies

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Explain says in sentences what the policy accepts, in the order in which a
// verifier asks. What is left unchecked is said as plainly as what is checked.
func (p *Policy) Explain() []string {
	var s []string
	say := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }

	say("The policy %q accepts machines that run a release of the product %s.", p.Name, p.Product)
	for i := range p.Platforms {
		s = append(s, p.Platforms[i].explain()...)
	}
	say("The release must be signed by %s.", anyOf(p.Publishers))
	for _, l := range p.Logs {
		if l.Unwitnessed() {
			say("It may be in the log %s, which NOBODY WITNESSES: its operator can show each reader another log.", l.Origin())
			continue
		}
		names := make([]string, len(l.Witnesses()))
		for i, w := range l.Witnesses() {
			names[i] = w.Name
		}
		say("It may be in the log %s, if a quorum of its witnesses (%s) cosigned.", l.Origin(), strings.Join(names, ", "))
	}
	switch r := p.Receipt; {
	case r.Unchecked != "":
		say("NOT CHECKED is the age of its receipt: %s.", full(r.Unchecked))
	case r.MinAge > 0:
		say("A quorum must have cosigned within the last %s, and first at least %s ago.", short(r.MaxAge), short(r.MinAge))
	default:
		say("A quorum must have cosigned within the last %s; a release counts as soon as it is logged.", short(r.MaxAge))
	}
	if c := p.Channel; c.Unchecked != "" {
		say("NOT CHECKED is whether the release is still current: %s.", full(c.Unchecked))
	} else {
		say("The channel %q, signed by %s at most %s ago, must list it as current.", c.Name, anyOf(c.Keys), short(c.MaxAge))
	}
	say("Its security epoch must be at least %d, and no lower than one already seen.", p.MinimumEpoch)
	if w := p.Withdrawers; w.Unchecked != "" {
		say("NOT CHECKED is whether it was withdrawn: %s.", full(w.Unchecked))
	} else {
		say("It may not be withdrawn by %s.", anyOf(w.Keys))
	}
	say("Evidence that answers no nonce of ours may be %s old.", short(p.EvidenceAge))
	if r := p.Rebuilders; r.Unchecked != "" {
		say("NOT CHECKED is whether others rebuilt it from source: %s.", full(r.Unchecked))
	} else {
		say("At least %d of %d rebuilders (%s) must have got the same bits from source.", r.Threshold, len(r.Keys), names(r.Keys, ", "))
	}
	say("NOT CHECKED is whether the machine is one that somebody vouches for: %s.", full(p.Machines.Unchecked))
	for _, r := range p.Rules {
		say("The rule %q must hold: %s.", r.Name, oneLine(r.Source))
	}
	return s
}

func (p *Platform) explain() []string {
	var s []string
	say := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	switch p.Platform {
	case hardware.TPM:
		say("A TPM may quote for the machine, with %s. The machine is then measured, NOT CONFIDENTIAL: its host can read it.", attestationKeys(len(p.AttestationKeys)))
	case hardware.SEVSNP:
		t := p.MinimumTCB
		say("The machine may be an AMD SEV-SNP guest, on firmware of at least bootloader %d, TEE %d, SNP %d, microcode %d.", t.Bootloader, t.TEE, t.SNP, t.Microcode)
		if p.Isolation != hardware.Confidential {
			say("It NEED NOT BE CONFIDENTIAL.")
		}
		for _, c := range p.SimulatedRoots {
			say("SIMULATED hardware counts under the throw-away root %q (key %s…): it isolates nothing.", c.Subject.CommonName, hex.EncodeToString(c.SubjectKeyId)[:min(16, 2*len(c.SubjectKeyId))])
		}
	}
	if len(p.Any) == 0 {
		say("On %s a release must name every register.", p.Platform)
	} else {
		say("On %s a release may leave %s open.", p.Platform, strings.Join(p.Any, ", "))
		for _, a := range p.Any {
			if a == "pcr0" {
				say("Where pcr0 is open the firmware is NOT MEASURED, and every other register rests on its word.")
			}
		}
	}
	return s
}

func attestationKeys(n int) string {
	if n == 1 {
		return "the key that the policy holds"
	}
	return fmt.Sprintf("one of the %d keys that the policy holds", n)
}

func names(keys []Key, sep string) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Name
	}
	return strings.Join(out, sep)
}

func anyOf(keys []Key) string { return names(keys, " or ") }

// full drops the full stop that somebody wrote at the end of a reason.
func full(s string) string { return strings.TrimRight(strings.TrimSpace(s), ".") }

// short prints a duration without its zero parts: 24h, not 24h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
