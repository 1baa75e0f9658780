package receipt

import "fmt"

// Kind says what about a receipt, checkpoint or policy was not accepted.
type Kind string

const (
	// Malformed: not in the form that docs/formats.md gives.
	Malformed Kind = "malformed"
	// WrongLog: another log's than the policy's.
	WrongLog Kind = "wrong-log"
	// LogSignature: not signed by the policy's log.
	LogSignature Kind = "log-signature"
	// Quorum: the valid cosignatures do not satisfy the policy's quorum, or one
	// by a witness of the policy is not valid.
	Quorum Kind = "quorum"
	// Future: the quorum would be satisfied if cosignatures dated after now
	// counted; a clock is wrong, most likely the reader's.
	Future Kind = "future"
	// Inclusion: the leaf is not in the tree that the checkpoint names.
	Inclusion Kind = "inclusion"
)

// An Error says why a receipt, checkpoint or policy was not accepted.
type Error struct {
	Kind   Kind
	Detail string
}

func (e *Error) Error() string { return e.Detail }

func errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
