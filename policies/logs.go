package policies

import (
	"regexp"
	"strconv"

	"github.com/vitrine-dev/vitrine/log/receipt"
)

// tlogPolicy reads {policy: |…, unwitnessed: bool}. The tlog-policy has to be a
// literal block, so that the line of an error in it is a line of the file.
func (r *reader) tlogPolicy(v value) *receipt.Policy {
	m := r.mapping(v, "unwitnessed", "policy")
	unwitnessed := false
	if u, ok := m["unwitnessed"]; ok {
		unwitnessed = r.boolean(u)
	}
	text := r.need(m, v, "policy", "give the C2SP tlog-policy as a block string (policy: |)")
	s, first := r.str(text)
	if r.err != nil {
		return nil
	}
	if first == 0 {
		r.failf(text.line, "%s must be a literal block string; write \"policy: |\" and the tlog-policy below it", text.name)
		return nil
	}
	parsed, err := receipt.ParsePolicy(s, unwitnessed)
	if err != nil {
		line, detail := blockLine(err.Error())
		r.failf(first+line-1, "%s: %s", text.name, detail)
		return nil
	}
	return parsed
}

var lineNumber = regexp.MustCompile(`\bline ([0-9]{1,6})(?: of the policy)?: `)

// blockLine finds the line that an error about a tlog-policy names, which
// counts from the beginning of that text, and takes it out of the message: the
// reader of the file knows only the file's lines.
func blockLine(msg string) (line int, rest string) {
	at := lineNumber.FindStringSubmatchIndex(msg)
	if at == nil {
		return 1, msg
	}
	n, err := strconv.Atoi(msg[at[2]:at[3]])
	if err != nil || n < 1 {
		return 1, msg
	}
	return n, msg[:at[0]] + msg[at[1]:]
}

// distinctLogs refuses two logs under one origin or with one key: receipts and
// remembered checkpoints are told apart by these.
func (r *reader) distinctLogs(logs []*receipt.Policy, v value) {
	if r.err != nil {
		return
	}
	for i, a := range logs {
		for _, b := range logs[:i] {
			if a.Origin() == b.Origin() || a.LogVerifierKey() == b.LogVerifierKey() {
				r.failf(v.line, "logs names the log %q twice; merge the two", a.Origin())
			}
		}
	}
}
