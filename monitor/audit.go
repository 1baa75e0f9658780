package monitor

import (
	"errors"
	"fmt"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// finding is an alert before it has a time and an index.
type finding struct {
	code   Code
	detail string
}

func find(code Code, format string, args ...any) []finding {
	return []finding{{code, fmt.Sprintf(format, args...)}}
}

// audit reads one entry, changes the state by what it says, and returns what a
// person should know of it. Entries about other products are checked for their
// form and then left to those products' monitors.
//
// A leaf that stands in the log twice is no finding: a log's deduplication is
// best effort, and the same bytes say the same thing.
func (s *state) audit(index int64, leaf []byte, policy *policies.Policy) []finding {
	signed, err := statement.Parse(leaf)
	if err != nil {
		return find(Malformed, "the log holds an entry that is not a statement: %v", err)
	}
	if signed.Statement.Product() != policy.Product {
		return nil
	}
	switch p := signed.Statement.Predicate.(type) {
	case *statement.Release:
		return s.auditRelease(index, signed, p, policy)
	case *statement.Rebuild:
		return s.auditRebuild(signed, p, policy)
	case *statement.Channel:
		return s.auditChannel(signed, p, policy)
	case *statement.Withdrawal:
		return s.auditWithdrawal(signed, p, policy)
	}
	return nil
}

// signedBy finds the key of a list that signed the statement; fault is non-nil
// if there is none.
func signedBy(signed *statement.Signed, keys []policies.Key, code Code, what string) (name string, fault []finding) {
	key, err := signed.VerifyAny(policies.PublicKeys(keys))
	switch {
	case err == nil:
		return policies.KeyNamed(keys, key), nil
	case errors.Is(err, statement.ErrBadSignature):
		return "", find(BadSignature, "%s is not signed by the key that it names: %v", what, err)
	default:
		return "", find(code, "%s is signed by a key that the policy does not list (hint %x)", what, signed.Hint)
	}
}

func (s *state) auditRelease(index int64, signed *statement.Signed, r *statement.Release, policy *policies.Policy) []finding {
	what := fmt.Sprintf("release %s of %s", r.Version, r.Product)
	if _, fault := signedBy(signed, policy.Publishers, UnknownPublisher, what); fault != nil {
		return fault
	}
	id := signed.ID.String()
	if _, known := s.Releases[id]; known {
		return nil
	}
	var found []finding
	if first, taken := s.Versions[r.Version]; taken {
		found = find(ConflictingRelease, "%s was released before with other contents (entry %d, payload %s; now payload %s)",
			what, s.Releases[first].Index, first, id)
	} else {
		s.Versions[r.Version] = id
	}
	if r.SecurityEpoch < s.Epoch {
		found = append(found, find(EpochDecreased, "%s has security epoch %d, and an earlier release has %d", what, r.SecurityEpoch, s.Epoch)...)
	}
	s.Epoch = max(s.Epoch, r.SecurityEpoch)
	// A conflicting release is rebuilt as well: which of the two is the
	// source's is the first thing that anybody will ask.
	s.Releases[id] = &release{Index: index, Version: r.Version}
	return found
}

func (s *state) auditRebuild(signed *statement.Signed, r *statement.Rebuild, policy *policies.Policy) []finding {
	// Anybody may say that they rebuilt something; only the policy's rebuilders
	// are held to it.
	name, fault := signedBy(signed, policy.Rebuilders.Keys, UnknownSigner, "a rebuild statement")
	if fault != nil {
		if fault[0].code == BadSignature {
			return fault
		}
		return nil
	}
	own, known := s.Releases[r.Release.Digest.SHA256]
	if !known || own.Outcome == "" || own.Outcome == r.Outcome {
		return nil
	}
	if own.Outcome == statement.CouldNotBuild || r.Outcome == statement.CouldNotBuild {
		return nil
	}
	return find(Disagreement, "%s says that release %s is %s; this monitor got %s", name, r.Version, r.Outcome, own.Outcome)
}

func (s *state) auditChannel(signed *statement.Signed, c *statement.Channel, policy *policies.Policy) []finding {
	if policy.Channel.Name == "" || c.Channel != policy.Channel.Name {
		return nil
	}
	what := fmt.Sprintf("channel statement %s number %d", c.Channel, c.Sequence)
	if _, fault := signedBy(signed, policy.Channel.Keys, UnknownSigner, what); fault != nil {
		return fault
	}
	var found []finding
	if c.Sequence <= s.Channels[c.Channel] {
		found = find(ChannelRollback, "%s comes after number %d", what, s.Channels[c.Channel])
	}
	s.Channels[c.Channel] = max(s.Channels[c.Channel], c.Sequence)
	for _, subject := range signed.Statement.Subjects {
		if _, known := s.Releases[subject.Digest.SHA256]; !known {
			found = append(found, find(UnloggedRelease, "%s lists version %s (%s), which no publisher has put into the log",
				what, subject.Name, subject.Digest.SHA256)...)
		}
	}
	return found
}

func (s *state) auditWithdrawal(signed *statement.Signed, w *statement.Withdrawal, policy *policies.Policy) []finding {
	if _, fault := signedBy(signed, policy.Withdrawers.Keys, UnknownSigner, "a withdrawal"); fault != nil {
		return fault
	}
	for _, subject := range signed.Statement.Subjects {
		if w.Reinstates {
			delete(s.Withdrawn, subject.Digest.SHA256)
		} else {
			s.Withdrawn[subject.Digest.SHA256] = true
		}
	}
	return nil
}
