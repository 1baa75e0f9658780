package verifier

import (
	"crypto/sha256"
	"strings"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-tpm/tpm2"
)

// replayedPCRs returns the values that the quoted PCRs must have had if the
// event log is true. A quote signs only a digest over the values, so they have
// to be brought, and the document brings them as the log that they come from:
// whoever changes the log ends with values that the quote does not sign.
//
// A PCR without events has its value after start-up: 32 zero bytes (TCG PC
// Client PFP, §3.3.4), but for the locality of TPM2_Startup in the last byte of
// PCR 0, which the log tells in a StartupLocality event (ibid., §10.4.5.3).
//
// Nil stands for a quote or a log that cannot be read; tpm.Verify names why.
func replayedPCRs(attest, eventLog []byte) map[int][32]byte {
	quoted := quotedPCRs(attest)
	if quoted == nil {
		return nil
	}
	values := map[int][32]byte{}
	for _, i := range quoted {
		values[i] = [32]byte{}
	}
	if len(eventLog) == 0 {
		return values
	}
	log, err := tcg.ParseEventLog(eventLog, tcg.ParseOpts{})
	if err != nil {
		return nil
	}
	for _, e := range log.Events(register.HashSHA256) {
		value, ok := values[e.Index]
		if !ok {
			continue
		}
		if e.Type == tcg.NoAction {
			if e.Index == 0 && len(e.Data) == 17 && strings.HasPrefix(string(e.Data), "StartupLocality\x00") && value == [32]byte{} {
				value[31] = e.Data[16]
				values[0] = value
			}
			continue
		}
		if len(e.Digest) != sha256.Size {
			return nil
		}
		values[e.Index] = sha256.Sum256(append(value[:], e.Digest...))
	}
	return values
}

// quotedPCRs returns the PCRs that a quote covers in the SHA-256 bank.
func quotedPCRs(attest []byte) []int {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		return nil
	}
	q, err := a.Attested.Quote()
	if err != nil {
		return nil
	}
	var out []int
	for _, s := range q.PCRSelect.PCRSelections {
		if s.Hash != tpm2.TPMAlgSHA256 {
			continue
		}
		for i := range 24 {
			if i/8 < len(s.PCRSelect) && s.PCRSelect[i/8]&(1<<(i%8)) != 0 {
				out = append(out, i)
			}
		}
	}
	return out
}
