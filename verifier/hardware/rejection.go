package hardware

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Code is a reason for a refusal: a slash-separated name from the closed list
// that [Codes] returns. Code and meaning never change; a new reason is a new
// code.
type Code string

// CodeInfo says what a code means, in sentences for people.
type CodeInfo struct {
	Code Code `json:"code"`
	// Cause is what happened and what it means.
	Cause string `json:"cause"`
	// Mend is what to do about it.
	Mend string `json:"mend"`
}

// Rejection is the answer no. Every refusal of the verifier and of the
// packages below it is one; find it with [errors.As].
type Rejection struct {
	Code Code `json:"code"`
	// Detail is one sentence in lower case about this very case: which value
	// was seen and which was wanted.
	Detail string `json:"detail"`
}

// Refuse returns a Rejection whose detail is formatted as by [fmt.Sprintf].
// The code is one of the closed list; a test of this package reads every call
// in the module and holds it to that.
//
// A detail often quotes what a stranger sent, by way of another package's error
// too, and ends on somebody's terminal: what is not printable there, such as
// the characters that move a cursor or turn text around, becomes U+FFFD.
func Refuse(code Code, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Detail: strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, fmt.Sprintf(format, args...))}
}

func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Detail }

// Codes returns the closed list of reasons for which Vitrine refuses, sorted
// by code. The slice is the caller's own.
func Codes() []CodeInfo { return slices.Clone(sortedCodes()) }

// Info returns the entry of a code in the closed list.
func (c Code) Info() (CodeInfo, bool) {
	all := sortedCodes()
	i, ok := slices.BinarySearchFunc(all, c, func(e CodeInfo, c Code) int {
		return strings.Compare(string(e.Code), string(c))
	})
	if !ok {
		return CodeInfo{}, false
	}
	return all[i], true
}

var sortedCodes = sync.OnceValue(func() []CodeInfo {
	all := slices.Concat(hardwareCodes, sevSNPCodes, tpmCodes, appraisalCodes, transportCodes)
	slices.SortFunc(all, func(a, b CodeInfo) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return all
})
