package tpm

import "github.com/vitrine-dev/vitrine/verifier/hardware"

// VerifyWithout is Verify with one check left out, and Verify itself for "".
func VerifyWithout(name string, e Evidence, opts Options) (*hardware.Claims, error) {
	if name == "" {
		return Verify(e, opts)
	}
	var kept []check
	for _, c := range checks {
		if c.name != name {
			kept = append(kept, c)
		}
	}
	return verify(e, opts, kept)
}
