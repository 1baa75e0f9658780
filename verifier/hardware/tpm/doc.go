// Package tpm appraises quotes of a TPM 2.0: a quote, its PCR values and the
// firmware's event log in, claims or one coded refusal out.
//
// A quote (TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE, TPM 2.0 Library part 2,
// §10.12) is signed by an attestation key and covers a digest of the PCRs it
// selects. The values themselves travel beside it and are held to that digest;
// the event log, if there is one, is replayed to those values, register by
// register.
//
// Which key may quote is the caller's decision and has no default: a TPM's word
// for its own key proves nothing. The key's attributes, too, are the sender's
// word, unless the caller read the public area from the TPM itself: they turn
// away keys that were made wrongly by mistake. And a TPM by itself says nothing
// about who owns the machine that it sits in, so that the claims always say
// isolation none.
package tpm
