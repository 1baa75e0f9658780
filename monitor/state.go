package monitor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

const (
	stateVersion = 1
	// maxStateBytes bounds the file: [maxReleases] with the word of each
	// rebuilder, [maxWithdrawn], and what is pending.
	maxStateBytes = 256 << 20
)

// state is what a monitor remembers. It is replaced as a whole, so that it is
// always the state after some step, never half of one.
type state struct {
	Version int `json:"version"`
	// Origin is the log that the state is about.
	Origin string `json:"origin"`
	// Key is the SHA-256 of the monitor's public key.
	Key string `json:"key"`
	// Checkpoint is the newest signed note that was verified; "" before the
	// first.
	Checkpoint string `json:"checkpoint"`
	// Fork names the two notes of a fork in the folder, the older first.
	Fork []string `json:"fork,omitempty"`
	// Audit is what the entries say under the policy.
	Audit *audit `json:"audit"`
	// Rebuilds are this monitor's own, by the release's identity.
	Rebuilds map[string]*rebuild `json:"rebuilds"`
	// Troubles are what has gone wrong since when, by the code of the alert that
	// it becomes if it lasts.
	Troubles map[Code]*trouble `json:"troubles"`
	Alerts   ledger            `json:"alerts"`
}

// rebuild is how far the rebuild of a release is.
type rebuild struct {
	Outcome statement.Outcome `json:"outcome"`
	// Tries counts the builds that gave nothing; the next is not before Retry.
	Tries int       `json:"tries,omitempty"`
	Retry time.Time `json:"retry,omitzero"`
	// Payload is the SHA-256 of what is to be said, in the folder statements; ""
	// if it cannot be, for the reason in Unsaid.
	Payload string `json:"payload,omitempty"`
	Unsaid  string `json:"unsaid,omitempty"`
	// Leaf is the SHA-256 of the signed statement in the same folder; "" before
	// it is signed.
	Leaf string `json:"leaf,omitempty"`
	// Published is the index that the log gave for it, and Confirmed that it was
	// found there.
	Published *int64 `json:"published,omitempty"`
	Confirmed bool   `json:"confirmed,omitempty"`
	// Lost counts how often it was not; it is sent again, not before Resend.
	Lost   int       `json:"lost,omitempty"`
	Resend time.Time `json:"resend,omitzero"`
	// Explained says that the log has the explanation of a difference.
	Explained bool `json:"explained,omitempty"`
}

func newState(origin, key, policy string) *state {
	return &state{
		Version: stateVersion, Origin: origin, Key: key, Audit: newAudit(policy),
		Rebuilds: map[string]*rebuild{}, Troubles: map[Code]*trouble{},
		Alerts: ledger{Windows: map[Code]*window{}},
	}
}

// loadState reads the state in a folder, or begins one.
func loadState(f folder, origin, key, policy string) (*state, error) {
	s, err := readState(f.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newState(origin, key, policy), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the monitor's state: %w", err)
	}
	if s.Origin != origin {
		return nil, fmt.Errorf("reading the monitor's state: %s is about the log %q, not %q; give each log a folder of its own", f.path(stateFile), s.Origin, origin)
	}
	if s.Key != key {
		return nil, fmt.Errorf("reading the monitor's state: %s is of a monitor with another key (SHA-256 %s…); use that key, or give this one a folder of its own", f.path(stateFile), s.Key[:min(16, len(s.Key))])
	}
	return s, nil
}

func readState(path string) (*state, error) {
	b, err := durable.ReadFile(path, maxStateBytes)
	if err != nil {
		return nil, err
	}
	// Another version may have other members, so that it is looked at first.
	var head struct{ Version int }
	const again = "; remove the file to follow the log from its first entry again"
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%s: %w%s", path, err, again)
	}
	if head.Version != stateVersion {
		return nil, fmt.Errorf("%s has version %d, and this program knows %d%s", path, head.Version, stateVersion, again)
	}
	s := newState("", "", "")
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %w%s", path, err, again)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w%s", path, err, again)
	}
	return s, nil
}

// check refuses a state that would make the monitor fail later, and elsewhere.
func (s *state) check() error {
	if s.Audit == nil || s.Rebuilds == nil || s.Troubles == nil || s.Alerts.Windows == nil {
		return errors.New("a part is null")
	}
	if err := s.Audit.check(); err != nil {
		return err
	}
	for id, r := range s.Rebuilds {
		if r == nil {
			return fmt.Errorf("the rebuild of %s is null", id)
		}
	}
	for code, t := range s.Troubles {
		if t == nil {
			return fmt.Errorf("the trouble %s is null", code)
		}
	}
	for code, w := range s.Alerts.Windows {
		if w == nil {
			return fmt.Errorf("the window of %s is null", code)
		}
	}
	if len(s.Fork) != 0 && len(s.Fork) != 2 {
		return fmt.Errorf("a fork has two checkpoints, not %d", len(s.Fork))
	}
	return nil
}

func (s *state) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, fmt.Errorf("writing the monitor's state: %w", err)
	}
	return b, nil
}

// judgedBy is a digest of all that an audit takes from a policy. Entries that
// were audited under other keys have to be audited again.
func judgedBy(p *policies.Policy) (string, error) {
	type key struct{ Name, Hint string }
	list := func(keys []policies.Key) []key {
		all := []key{}
		for _, k := range keys {
			hint := k.Hint()
			all = append(all, key{k.Name, hex.EncodeToString(hint[:])})
		}
		return all
	}
	b, err := json.Marshal(map[string]any{
		"product": p.Product, "publishers": list(p.Publishers), "rebuilders": list(p.Rebuilders.Keys),
		"channel": p.Channel.Name, "channelKeys": list(p.Channel.Keys),
		"withdrawers": list(p.Withdrawers.Keys), "nobodyWithdraws": p.Withdrawers.Unchecked != "",
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
