// Package sevsnp appraises attestation reports of AMD SEV-SNP: a report and
// its certificates in, claims or one coded refusal out.
//
// A report (SEV-SNP ABI, AMD 56860, §7.3, table ATTESTATION_REPORT) is 1184
// bytes that the security processor signs with a key of its chip (VCEK) or of
// the chip's owner (VLEK). AMD certifies that key through an intermediate
// (ASK, or ASVK for VLEKs) under one root for each product line (ARK; KDS
// interface, AMD 57230). The roots and intermediates of Milan, Genoa and Turin
// are built in; others can be named, for tests, and everything that ends in
// one of them is claimed to be simulated.
//
// What is checked is a list ([Checks] names it in order), each entry with codes
// of its own in the closed list of package hardware. Nothing is fetched, and
// nothing is remembered between calls.
package sevsnp
