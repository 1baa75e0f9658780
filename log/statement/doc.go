// Package statement says things about releases and signs them: in-toto
// Statements with this project's predicates, in a DSSE envelope, in a Sigstore
// bundle v0.3 under a plain public key.
//
// A signed statement has three faces. Its payload is the canonical JSON that
// was signed; the SHA-256 of the payload is the statement's identity, the same
// in whatever bundle it stands. Its leaf is the bundle's exact bytes, which a
// log takes as an entry. The [Statement] is what the payload means.
//
// Every byte that comes in is refused unless it has the one form that
// docs/formats.md gives it; a [FormatError] names the place by JSON pointer and
// what would mend it. A statement that was parsed is well formed. Whether it is
// signed by somebody trusted is for [Signed.VerifyAny] to answer, and only with
// the reader's own keys.
package statement

import "github.com/vitrine-dev/vitrine/log/ijson"

// FormatError says which member of a statement or leaf was refused, why, and
// what would mend it. Path is a JSON pointer (RFC 6901) into the payload or the
// bundle, empty for the whole of it.
type FormatError = ijson.Error
