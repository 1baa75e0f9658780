package evidence

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Codes of a node's errors.
const (
	CodeNoStatement  = "node/no-statement"  // no release to show was pushed yet (docs/formats.md)
	CodeNoCheckpoint = "node/no-checkpoint" // no nonce was given, and nothing was pushed to be dated by
	CodeBadNonce     = "node/bad-nonce"     // the nonce is not 32 bytes in base64url
	CodeBadPush      = "node/bad-push"      // the push is malformed
	CodeAttester     = "node/attester"      // the hardware gave no evidence
	CodeUpstream     = "node/upstream"      // the inference server did not answer
	CodeBusy         = "node/busy"          // too many ask at once
	CodeTooLarge     = "node/too-large"     // the body is longer than such a body may be
	CodeMethod       = "node/method"        // another HTTP method than is taken there
	CodeNotFound     = "node/not-found"     // the node serves nothing at that path
)

// statuses is the closed list of codes, each with its HTTP status.
var statuses = map[string]int{
	CodeNoStatement:  http.StatusServiceUnavailable,
	CodeNoCheckpoint: http.StatusServiceUnavailable,
	CodeBadNonce:     http.StatusBadRequest,
	CodeBadPush:      http.StatusBadRequest,
	CodeAttester:     http.StatusInternalServerError,
	CodeUpstream:     http.StatusBadGateway,
	CodeBusy:         http.StatusServiceUnavailable,
	CodeTooLarge:     http.StatusRequestEntityTooLarge,
	CodeMethod:       http.StatusMethodNotAllowed,
	CodeNotFound:     http.StatusNotFound,
}

// Error is what a node answers instead of what was asked for. Status is the
// HTTP status; Code and Detail are the JSON body.
type Error struct {
	Code   string
	Detail string
	Status int
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// NewError returns the error of a code, which must be one of this package's.
func NewError(code, detail string) *Error {
	status, ok := statuses[code]
	if !ok {
		panic("evidence: unknown code " + code)
	}
	return &Error{Code: code, Detail: detail, Status: status}
}

type errorBody struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Marshal returns the body of the error's HTTP answer.
func (e *Error) Marshal() []byte {
	// Detail may quote what a client sent.
	detail := strings.ToValidUTF8(e.Detail, "\ufffd")
	if len(detail) > MaxErrorBytes/4 {
		detail = strings.ToValidUTF8(detail[:MaxErrorBytes/4], "") + "…"
	}
	body, err := ijson.Marshal(errorBody{e.Code, detail})
	if err != nil {
		panic("evidence: writing an error: " + err.Error())
	}
	return body
}

// ParseError reads a node's HTTP answer of the given status, which is not one
// of success, as an [Error]. The second result says why it is not one.
func ParseError(status int, body []byte) (*Error, error) {
	var b errorBody
	if err := ijson.Unmarshal(body, &b, MaxErrorBytes); err != nil {
		return nil, fmt.Errorf("reading a node's error: %w", err)
	}
	want, ok := statuses[b.Code]
	if !ok {
		return nil, fmt.Errorf("reading a node's error: %w", ijson.Errorf("/code", "%q is not a known code", clip(b.Code)))
	}
	if want != status {
		return nil, fmt.Errorf("reading a node's error: %w", ijson.Errorf("/code", "%s comes with status %d, not %d", b.Code, want, status))
	}
	return &Error{Code: b.Code, Detail: b.Detail, Status: status}, nil
}
