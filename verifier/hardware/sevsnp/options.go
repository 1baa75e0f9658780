package sevsnp

import (
	"crypto/x509"
	"time"
)

// Options say what an appraisal rests on and what it demands. Nothing has a
// default: the zero value refuses everything.
type Options struct {
	// Now is the time at which certificates and revocation lists must be
	// valid. Required.
	Now time.Time
	// BuiltInRoots trusts AMD's roots for Milan, Genoa and Turin, which this
	// program carries. Only they give confidential claims.
	BuiltInRoots bool
	// SimulatedRoots are further roots (ARK certificates). What ends in one of
	// them has claims that say Simulated and Isolation none.
	SimulatedRoots []*x509.Certificate
	// MinimumTCB is what the report's REPORTED_TCB must reach in every
	// component. Required; write &TCB{} to accept any level.
	MinimumTCB *TCB
	// RequireCRL refuses evidence without a revocation list. A list that is
	// given is always checked.
	RequireCRL bool
	// AdmitUnseen accepts what was implemented from the specification alone
	// (Turin, report version 5): the claims then say which.
	AdmitUnseen bool
}

// TCB holds the security patch levels of the platform's firmware, component
// by component (SEV-SNP ABI 56860, TCB_VERSION).
type TCB struct {
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}
