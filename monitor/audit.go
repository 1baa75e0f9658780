package monitor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

const (
	// maxReleases bounds the releases of a product that are remembered, and
	// rebuilt.
	maxReleases = 10_000
	// maxSeen bounds the statements that are known again.
	maxSeen = 20_000
)

// audit is what the entries of a log say about the product, as far as they were
// read, under one policy.
type audit struct {
	// Policy is [judgedBy] of the policy.
	Policy string `json:"policy"`
	// Next is the index of the first entry that was not audited yet.
	Next int64 `json:"next"`
	// Releases are the product's, by identity.
	Releases map[string]*release `json:"releases"`
	// Versions maps a version to the identity first seen.
	Versions map[string]string `json:"versions"`
	// Epoch is the highest security epoch released so far.
	Epoch int64 `json:"epoch"`
	// Sequence is the highest of the policy's channel.
	Sequence int64 `json:"sequence"`
	// Withdrawn is what the policy's withdrawers said.
	Withdrawn withdrawals `json:"withdrawn"`
	// Seen holds the identities of rebuilds and channel statements by keys of
	// the policy. It is emptied when it is full.
	Seen map[string]bool `json:"seen"`
	// ReleasesFull and WithdrawnFull say that there is more than is remembered.
	ReleasesFull  bool `json:"releasesFull,omitempty"`
	WithdrawnFull bool `json:"withdrawnFull,omitempty"`
}

// release is one release of the product.
type release struct {
	Index   int64  `json:"index"`
	Version string `json:"version"`
	// Words are the last outcomes that the policy's rebuilders published, by
	// their names in the policy.
	Words map[string]word `json:"words,omitempty"`
}

// word is what another rebuilder says, and the entry in which.
type word struct {
	Outcome statement.Outcome `json:"outcome"`
	Index   int64             `json:"index"`
}

func newAudit(policy string) *audit {
	return &audit{Policy: policy, Releases: map[string]*release{}, Versions: map[string]string{}, Withdrawn: withdrawals{}, Seen: map[string]bool{}}
}

func (a *audit) check() error {
	if a.Next < 0 || a.Releases == nil || a.Versions == nil || a.Withdrawn == nil || a.Seen == nil {
		return errors.New("the audit is not whole")
	}
	for id, r := range a.Releases {
		if r == nil || r.Index < 0 {
			return fmt.Errorf("the release %s is not whole", id)
		}
	}
	for version, id := range a.Versions {
		if a.Releases[id] == nil {
			return fmt.Errorf("version %s is of a release that is not there", version)
		}
	}
	for id, w := range a.Withdrawn {
		if w == nil {
			return fmt.Errorf("the withdrawal %s is null", id)
		}
	}
	return nil
}

// finding is an alert before it has a number and a time. The entry is the
// audited one, unless it names another.
type finding struct {
	code   Code
	detail string
	index  int64
}

func (a *audit) find(code Code, format string, args ...any) []finding {
	return []finding{{code, fmt.Sprintf(format, args...), a.Next}}
}

// take audits the next entry, and returns what a person should know of it.
// Entries about other products are checked for their form and then left to
// those products' monitors. own is what this monitor has rebuilt.
//
// A statement that stands in the log twice is no finding: a log's deduplication
// is best effort, and the same words say the same thing.
func (a *audit) take(leaf []byte, policy *policies.Policy, own map[string]*rebuild, now time.Time) []finding {
	defer func() { a.Next++ }()
	signed, err := statement.Parse(leaf)
	if err != nil {
		return a.find(Malformed, "the log holds an entry that is not a statement: %v", err)
	}
	if signed.Statement.Product() != policy.Product {
		return nil
	}
	switch p := signed.Statement.Predicate.(type) {
	case *statement.Release:
		return a.takeRelease(signed, p, policy, now)
	case *statement.Rebuild:
		return a.takeRebuild(signed, p, policy, own)
	case *statement.Channel:
		return a.takeChannel(signed, p, policy, now)
	case *statement.Withdrawal:
		return a.takeWithdrawal(signed, p, policy)
	}
	return nil
}

// signedBy finds the key of a list that signed the statement; fault is non-nil
// if there is none.
func (a *audit) signedBy(signed *statement.Signed, keys []policies.Key, code Code, what string) (name string, fault []finding) {
	key, err := signed.VerifyAny(policies.PublicKeys(keys))
	switch {
	case err == nil:
		return policies.KeyNamed(keys, key), nil
	case errors.Is(err, statement.ErrBadSignature):
		return "", a.find(BadSignature, "%s is not signed by the key that it names: %v", what, err)
	default:
		return "", a.find(code, "%s is signed by a key that the policy does not list for that (its SHA-256 is said to be %x)", what, signed.Hint)
	}
}

// again remembers a statement, and reports whether it was seen before.
func (a *audit) again(signed *statement.Signed) bool {
	id := signed.ID.String()
	if a.Seen[id] {
		return true
	}
	if len(a.Seen) >= maxSeen {
		clear(a.Seen)
	}
	a.Seen[id] = true
	return false
}

func (a *audit) takeRelease(signed *statement.Signed, r *statement.Release, policy *policies.Policy, now time.Time) []finding {
	what := fmt.Sprintf("release %s of %s", r.Version, r.Product)
	if _, fault := a.signedBy(signed, policy.Publishers, UnknownPublisher, what); fault != nil {
		return fault
	}
	id := signed.ID.String()
	if _, known := a.Releases[id]; known {
		return nil
	}
	var found []finding
	if first, taken := a.Versions[r.Version]; taken {
		found = a.find(ConflictingRelease, "%s was released before with other contents (entry %d, payload %s; now payload %s)",
			what, a.Releases[first].Index, first, id)
	}
	if r.SecurityEpoch < a.Epoch {
		found = append(found, a.find(EpochDecreased, "%s has security epoch %d, and an earlier release has %d", what, r.SecurityEpoch, a.Epoch)...)
	}
	a.Epoch = max(a.Epoch, r.SecurityEpoch)
	if withdrawn := a.Withdrawn.of(signed, r, now); withdrawn != "" {
		found = append(found, a.find(WithdrawnRelease, "%s has what is withdrawn: %s", what, withdrawn)...)
	}
	if len(a.Releases) >= maxReleases {
		if !a.ReleasesFull {
			a.ReleasesFull = true
			found = append(found, a.find(LimitReached, "there are more than %d releases of %s; %s and later ones are not rebuilt", maxReleases, r.Product, r.Version)...)
		}
		return found
	}
	// A conflicting release is rebuilt as well: which of the two is the
	// source's is the first thing that anybody will ask.
	a.Releases[id] = &release{Index: a.Next, Version: r.Version}
	if _, taken := a.Versions[r.Version]; !taken {
		a.Versions[r.Version] = id
	}
	return found
}

// takeRebuild remembers what a rebuilder of the policy says. Anybody may say
// that they rebuilt something; only the policy's rebuilders are held to it.
func (a *audit) takeRebuild(signed *statement.Signed, r *statement.Rebuild, policy *policies.Policy, own map[string]*rebuild) []finding {
	name, fault := a.signedBy(signed, policy.Rebuilders.Keys, UnknownSigner, "a rebuild of version "+r.Version)
	if fault != nil {
		if fault[0].code == BadSignature {
			return fault
		}
		return nil
	}
	id := r.Release.Digest.SHA256
	known := a.Releases[id]
	if known == nil || a.again(signed) {
		// Nothing is rebuilt before it is in the log.
		return nil
	}
	if known.Words == nil {
		known.Words = map[string]word{}
	}
	before, spoke := known.Words[name]
	known.Words[name] = word{r.Outcome, a.Next}
	if mine := own[id]; mine != nil && !(spoke && before.Outcome == r.Outcome) {
		return disagreement(name, known, mine.Outcome)
	}
	return nil
}

// disagreement compares what a rebuilder said of a release with this monitor's
// own outcome.
func disagreement(name string, r *release, own statement.Outcome) []finding {
	theirs := r.Words[name]
	if theirs.Outcome == own || theirs.Outcome == statement.CouldNotBuild || own == statement.CouldNotBuild {
		return nil
	}
	return []finding{{Disagreement, fmt.Sprintf("%s says that release %s is %s; this monitor got %s", name, r.Version, theirs.Outcome, own), theirs.Index}}
}

// disagreements compares all that was said before this monitor knew.
func disagreements(r *release, own statement.Outcome) []finding {
	var found []finding
	for _, name := range slices.Sorted(maps.Keys(r.Words)) {
		found = append(found, disagreement(name, r, own)...)
	}
	return found
}

func (a *audit) takeChannel(signed *statement.Signed, c *statement.Channel, policy *policies.Policy, now time.Time) []finding {
	if policy.Channel.Name == "" || c.Channel != policy.Channel.Name {
		return nil
	}
	what := fmt.Sprintf("channel statement %s number %d", c.Channel, c.Sequence)
	if _, fault := a.signedBy(signed, policy.Channel.Keys, UnknownSigner, what); fault != nil {
		return fault
	}
	if a.again(signed) {
		return nil
	}
	var found []finding
	if c.Sequence <= a.Sequence {
		found = a.find(ChannelRollback, "%s comes after number %d", what, a.Sequence)
	}
	a.Sequence = max(a.Sequence, c.Sequence)
	for _, subject := range signed.Statement.Subjects {
		id := subject.Digest.SHA256
		if a.Releases[id] == nil && !a.ReleasesFull {
			found = append(found, a.find(UnloggedRelease, "%s lists version %s (%s), which no publisher has put into the log", what, subject.Name, id)...)
		}
		if a.Withdrawn.has(id, now) {
			found = append(found, a.find(WithdrawnRelease, "%s lists version %s (%s), which is withdrawn", what, subject.Name, id)...)
		}
	}
	return found
}

func (a *audit) takeWithdrawal(signed *statement.Signed, w *statement.Withdrawal, policy *policies.Policy) []finding {
	if policy.Withdrawers.Unchecked != "" {
		return nil
	}
	if _, fault := a.signedBy(signed, policy.Withdrawers.Keys, UnknownSigner, "a withdrawal"); fault != nil {
		return fault
	}
	if !a.Withdrawn.take(signed.Statement.Subjects, w) && !a.WithdrawnFull {
		a.WithdrawnFull = true
		return a.find(LimitReached, "more than %d artefacts and registers are withdrawn; this monitor does not look for later ones", maxWithdrawn)
	}
	return nil
}
