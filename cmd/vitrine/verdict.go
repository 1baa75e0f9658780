package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/verifier"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// refusedEarly makes a verdict of a refusal that came before any check.
func refusedEarly(err error, v verifier.Verdict) (*verifier.Verdict, error) {
	if !errors.As(err, &v.Rejection) {
		return nil, err
	}
	v.Checks = []verifier.Check{}
	return &v, nil
}

// printVerdict prints a verdict, or the refusal that came after it.
func printVerdict(c *cobra.Command, v *verifier.Verdict, err error, asJSON bool) error {
	var no *hardware.Rejection
	if err != nil && !errors.As(err, &no) {
		return err
	}
	if no != nil && v.Accepted() {
		// The verdict stood, and the connection that it was to open was
		// refused after it.
		after := *v
		after.Rejection = no
		v = &after
	}
	if asJSON {
		if err := printJSON(c.OutOrStdout(), v); err != nil {
			return err
		}
	} else {
		p := colours(c.OutOrStdout())
		lines := v.Lines()
		for i, line := range lines {
			fmt.Fprintln(c.OutOrStdout(), p.verdictLine(line, i == len(lines)-1, v))
		}
	}
	switch {
	case v.Accepted():
		return nil
	case v.Rejection.Code == unreachable:
		return errUnasked
	}
	return errNo
}

// unreachable is the one refusal that is no answer: nobody was there to ask.
const unreachable hardware.Code = "node/unreachable"

// verdictLine colours a line of a verdict. Green is only for what was verified;
// what is measured and not confidential is never shown as safe.
func (p palette) verdictLine(line string, last bool, v *verifier.Verdict) string {
	switch {
	case last && !v.Accepted(), strings.HasPrefix(line, string(verifier.Fail)):
		return p.bad + line + p.reset
	case last && v.Confidential():
		return p.good + line + p.reset
	case last:
		return p.bold + line + p.reset
	case !strings.HasPrefix(line, string(verifier.Pass)):
		return p.dim + line + p.reset
	}
	return line
}
