package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
)

// maxTlogPolicyBytes bounds a tlog-policy file: 32 witnesses and groups.
const maxTlogPolicyBytes = 64 << 10

// logFlags name a log and how much of it is believed.
type logFlags struct {
	policy *string
	url    *string
}

func addLogFlags(c *cobra.Command) logFlags {
	f := logFlags{
		policy: c.Flags().String("log-policy", "", "tlog-policy `FILE` with the log and its witnesses"),
		url:    c.Flags().String("log", "", "`URL` of the log (default: the one in the tlog-policy)"),
	}
	require(c, "log-policy")
	return f
}

func (f logFlags) client() (*log.Client, error) {
	p, err := readTlogPolicy(*f.policy)
	if err != nil {
		return nil, err
	}
	if *f.url == "" && p.LogURL() == "" {
		return nil, fmt.Errorf("%s has no URL for the log %s; name one with --log", fileName(*f.policy), p.Origin())
	}
	return logClient(p, *f.url)
}

func logClient(p *receipt.Policy, url string) (*log.Client, error) {
	if url == "" {
		url = p.LogURL()
	}
	if url == "" {
		return nil, fmt.Errorf("the tlog-policy has no URL for the log %s; name one with --log", p.Origin())
	}
	return log.NewClient(url, p, nil), nil
}

func readTlogPolicy(path string) (*receipt.Policy, error) {
	text, err := readFile(path, maxTlogPolicyBytes)
	if err != nil {
		return nil, err
	}
	p, err := receipt.ParsePolicy(string(text), false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}
