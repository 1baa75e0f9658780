package node

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// Each answer that is not what was asked for is one of these. What a client
// sees never quotes the hardware, the upstream or anybody's prompt.

func refuse(code, format string, args ...any) *evidence.Error {
	return evidence.NewError(code, fmt.Sprintf(format, args...))
}

func errNoStatement() *evidence.Error {
	return refuse(evidence.CodeNoStatement,
		"no release statement was pushed to this node yet; run vitrine staple beside it")
}

func errNoPlatform(name, platform string) *evidence.Error {
	return refuse(evidence.CodeNoStatement,
		"the release that was pushed, %s, has no measurement for %s", name, platform)
}

func errOtherRegisters(name string, registers []string) *evidence.Error {
	return refuse(evidence.CodeNoStatement,
		"the release that was pushed, %s, does not list this node's registers; ask with a nonce for evidence of what they are: %s",
		name, strings.Join(registers, ", "))
}

func errNoCheckpoint() *evidence.Error {
	return refuse(evidence.CodeNoCheckpoint,
		"no checkpoint was pushed to date evidence by; ask with a nonce, or run vitrine staple beside the node")
}

func errBadNonce() *evidence.Error {
	return refuse(evidence.CodeBadNonce, "the query is not exactly one nonce; ask for %s?nonce=, and 32 bytes in base64url without padding", evidence.Path)
}

func errBadPush(format string, args ...any) *evidence.Error {
	return refuse(evidence.CodeBadPush, format, args...)
}

func errAttester(detail string) *evidence.Error {
	return refuse(evidence.CodeAttester, "%s", detail)
}

func errUpstream() *evidence.Error {
	return refuse(evidence.CodeUpstream, "the inference server did not answer")
}

func errBusy() *evidence.Error {
	return refuse(evidence.CodeBusy, "too many ask at once; ask again in a few seconds")
}

func errTooLarge(limit int64) *evidence.Error {
	return refuse(evidence.CodeTooLarge, "the body has more than %d bytes", limit)
}

func errMethod(allowed string) *evidence.Error {
	return refuse(evidence.CodeMethod, "this takes %s", allowed)
}

func errNotFound() *evidence.Error {
	return refuse(evidence.CodeNotFound, "the node serves nothing at this path")
}

// writeError answers with err, as node/attester if it is not an
// [evidence.Error].
func writeError(w http.ResponseWriter, err error) {
	var refusal *evidence.Error
	if !errors.As(err, &refusal) {
		refusal = errAttester("the node failed")
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	if refusal.Status == http.StatusServiceUnavailable {
		header.Set("Retry-After", "5")
	}
	w.WriteHeader(refusal.Status)
	_, _ = w.Write(refusal.Marshal())
}
