package policies

import (
	"regexp"
	"strconv"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
)

// readLog reads {policy: |…, unwitnessed: bool}. The tlog-policy has to be a
// literal block, so that the line of an error in it is a line of the file.
func readLog(v yamldoc.Value) *receipt.Policy {
	m := v.Mapping("unwitnessed", "policy")
	unwitnessed := m.Optional("unwitnessed").Boolean()
	text := m.Need("policy", "give the C2SP tlog-policy as a block string (policy: |)")
	s, first := text.Block()
	if v.Err() != nil {
		return nil
	}
	if first == 0 {
		text.Errorf("%s must be a literal block string; write \"policy: |\" and the tlog-policy below it", text.Name())
		return nil
	}
	parsed, err := receipt.ParsePolicy(s, unwitnessed)
	if err != nil {
		line, detail := blockLine(err.Error())
		text.ErrorfAt(first+line-1, "%s: %s", text.Name(), detail)
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

// distinctLogs refuses two logs under one origin: it tells receipts apart.
func distinctLogs(logs []*receipt.Policy, v yamldoc.Value) {
	if v.Err() != nil {
		return
	}
	for i, a := range logs {
		for _, b := range logs[:i] {
			if a.Origin() == b.Origin() {
				v.Errorf("logs names the log %q twice; merge the two", a.Origin())
			}
		}
	}
}
