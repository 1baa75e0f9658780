package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

func newLogList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List what a log says",
		Long: `List the entries of a log, each verified to be in the tree of a checkpoint that the
quorum of the tlog-policy cosigned: index, kind, what is said of what, who signed.

A signer is shown by the SHA-256 of its public key; with --policy those that the
policy names are shown by name, and only theirs are signatures that were verified.`,
		Example: `  vitrine log list --log-policy tlog.policy
  vitrine log list --log-policy tlog.policy --policy policy.yaml --from 100 --limit 20`,
		Args: arguments,
	}
	l := addLogFlags(c)
	from := c.Flags().Int64("from", 0, "`INDEX` of the first entry to list")
	limit := c.Flags().Int64("limit", 0, "`NUMBER` of entries to list at most (default: all)")
	policyFile := c.Flags().String("policy", "", "policy `FILE` that knows signers by name")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var known []policies.Key
		if *policyFile != "" {
			policy, err := readPolicy(*policyFile)
			if err != nil {
				return err
			}
			known = slices.Concat(policy.Publishers, policy.Rebuilders.Keys, policy.Channel.Keys, policy.Withdrawers.Keys)
		}
		client, err := l.client()
		if err != nil {
			return err
		}
		checkpoint, err := client.Checkpoint(c.Context())
		if err != nil {
			return err
		}
		if *from < 0 || *from > checkpoint.Size {
			return fmt.Errorf("--from %d is not in the log, which has %d entries", *from, checkpoint.Size)
		}
		list := &logList{Origin: checkpoint.Origin, Size: checkpoint.Size, Entries: []logEntry{}, checkpoint: checkpoint}
		if !*asJSON {
			list.printHead(c.OutOrStdout())
		}
		for e, err := range client.Entries(c.Context(), checkpoint, *from) {
			if err != nil {
				return err
			}
			if *limit > 0 && e.Index >= *from+*limit {
				break
			}
			if entry := describe(e, known); *asJSON {
				list.Entries = append(list.Entries, entry)
			} else {
				entry.print(c.OutOrStdout())
			}
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		return nil
	}
	return c
}

type logList struct {
	Origin  string     `json:"origin"`
	Size    int64      `json:"size"`
	Entries []logEntry `json:"entries"`

	checkpoint *receipt.Checkpoint
}

type logEntry struct {
	Index     int64           `json:"index"`
	Kind      string          `json:"kind"` // "malformed" if nobody here can read it
	Identity  string          `json:"identity,omitempty"`
	Key       string          `json:"key,omitempty"`    // SHA-256 of the signer's public key, as the entry says
	Signer    string          `json:"signer,omitempty"` // name in the policy, if the signature is that key's
	Statement json.RawMessage `json:"statement,omitempty"`
	Detail    string          `json:"detail,omitempty"` // what is wrong with a malformed entry, or with its signature

	says string
}

// describe reads an entry. A log may hold what no reader understands; that is
// an entry like any other.
func describe(e log.Entry, known []policies.Key) logEntry {
	entry := logEntry{Index: e.Index}
	signed, err := statement.Parse(e.Leaf)
	if err != nil {
		entry.Kind, entry.Detail = "malformed", err.Error()
		return entry
	}
	entry.Identity, entry.Key, entry.Statement = signed.ID.String(), hex.EncodeToString(signed.Hint[:]), signed.Payload
	entry.Kind, entry.says = saying(signed)
	key, err := signed.VerifyAny(policies.PublicKeys(known))
	switch {
	case err == nil:
		entry.Signer = policies.KeyNamed(known, key)
	case errors.Is(err, statement.ErrBadSignature):
		entry.Detail = statement.ErrBadSignature.Error()
	}
	return entry
}

// saying puts a statement into a few words.
func saying(s *statement.Signed) (kind, what string) {
	names := func(skip string) string {
		var all []string
		for _, subject := range s.Statement.Subjects {
			if name, ok := strings.CutPrefix(subject.Name, skip); ok {
				all = append(all, name)
			}
		}
		return strings.Join(all, ", ")
	}
	switch p := s.Statement.Predicate.(type) {
	case *statement.Release:
		return "release", fmt.Sprintf("%s %s", p.Product, p.Version)
	case *statement.Rebuild:
		what = fmt.Sprintf("%s %s: %s", p.Product, p.Version, p.Outcome)
		if p.Reason != "" {
			what += ", " + p.Reason
		}
		return "rebuild", what
	case *statement.Channel:
		return "channel", fmt.Sprintf("%s %s, sequence %d: %s is current until %s", p.Product, p.Channel, p.Sequence, names(""), p.NotAfter.Format(timeLayout))
	case *statement.Withdrawal:
		kind = "withdrawal"
		if p.Reinstates {
			kind = "reinstatement"
		}
		return kind, fmt.Sprintf("%s %s: %s", p.Product, names(withdrawnPrefix), p.Reason)
	}
	return "unknown", s.Statement.Product()
}

func (l *logList) printHead(w io.Writer) {
	var by []string
	for _, c := range l.checkpoint.Cosignatures {
		by = append(by, c.Witness)
	}
	who := "no witness"
	if len(by) > 0 {
		who = strings.Join(by, ", ")
	}
	fmt.Fprintf(w, "%s has %d entries, cosigned by %s\n", l.Origin, l.Size, who)
}

// print prints a line. What an entry says is its author's, who is anybody.
func (e *logEntry) print(w io.Writer) {
	p := colours(w)
	by := e.Signer
	switch {
	case e.Kind == "malformed":
		fmt.Fprintf(w, "%6d  %s%-13s%s  %s\n", e.Index, p.bad, e.Kind, p.reset, oneLine(e.Detail))
		return
	case e.Detail != "":
		by = p.bad + "key " + e.Key[:16] + "…, " + e.Detail + p.reset
	case by == "":
		by = p.dim + "key " + e.Key[:16] + "…" + p.reset
	}
	fmt.Fprintf(w, "%6d  %-13s  %s  (%s)\n", e.Index, e.Kind, oneLine(e.says), by)
}
