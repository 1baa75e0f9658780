// Package measure answers one question: what will the machine that boots this
// image measure it to? It computes, from files alone, the registers that
// hardware reports in its evidence, so that a release can publish them before
// any machine has run it, and anyone can check the answer without owning the
// hardware.
//
//   - [TPM] predicts the PCRs of a unified kernel image (UKI) booted from a
//     disk through OVMF.
//   - [SNP] predicts the launch digest of an AMD SEV-SNP guest (and, for older
//     machines, of SEV-ES and SEV guests) started by direct kernel boot.
//
// What files cannot decide is never guessed: a register that depends on
// something that was not given, or that only the host knows, is listed in
// [Result.Undetermined] with the reason.
//
// The package knows nobody else of this repository, and reads its inputs only
// through the readers it is given. All inputs are treated as hostile: a table
// that points outside its file is an error that names the structure and the
// offset.
package measure
