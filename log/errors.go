package log

import (
	"fmt"
	"net/http"
)

// Code says why the log did not answer as asked; docs/formats.md, "Log".
type Code string

// The codes of the log's write interface.
const (
	// NoReceipt: the entry is in, but the quorum did not cosign in time. The
	// same bytes again get the receipt of the same entry.
	NoReceipt Code = "log/no-receipt"
	// Malformed: the body is not what it has to be.
	Malformed Code = "log/malformed"
	// TooLarge: the body is longer than such a body may be.
	TooLarge Code = "log/too-large"
	// NotAdmitted: the signer may not say this here.
	NotAdmitted Code = "log/not-admitted"
	// Conflict: this product and version was released with another payload.
	Conflict Code = "log/conflict"
	// MissingAddenda: the recipe or the lock of a release is not stored.
	MissingAddenda Code = "log/missing-addenda"
	// Unavailable: the log cannot take this now.
	Unavailable Code = "log/unavailable"
)

// status gives the HTTP status that goes with a code.
var status = map[Code]int{
	NoReceipt:      http.StatusAccepted,
	Malformed:      http.StatusBadRequest,
	TooLarge:       http.StatusRequestEntityTooLarge,
	NotAdmitted:    http.StatusForbidden,
	Conflict:       http.StatusConflict,
	MissingAddenda: http.StatusUnprocessableEntity,
	Unavailable:    http.StatusServiceUnavailable,
}

// Error is the log's answer where it is not the one that was asked for. A
// [Client] returns the same error that the log made.
type Error struct {
	Code   Code
	Detail string
	// Index is the entry's, with [NoReceipt] only.
	Index int64
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
