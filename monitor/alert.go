package monitor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Code names a kind of alert. The list is closed: [Codes].
type Code string

// The kinds of alerts.
const (
	// Fork: the log signed two trees that do not agree. Both checkpoints are
	// kept in the folder evidence.
	Fork Code = "monitor/fork"
	// Malformed: an entry that the log should never have taken.
	Malformed Code = "monitor/malformed-entry"
	// BadSignature: an entry whose signature does not match the key it names.
	BadSignature Code = "monitor/bad-signature"
	// UnknownPublisher: a release of the watched product by a key that is not
	// a publisher's.
	UnknownPublisher Code = "monitor/unknown-publisher"
	// UnknownSigner: a channel or withdrawal statement about the watched
	// product by a key that may not make one.
	UnknownSigner Code = "monitor/unknown-signer"
	// ConflictingRelease: a second payload for one product and version.
	ConflictingRelease Code = "monitor/conflicting-release"
	// EpochDecreased: a release with a lower security epoch than an earlier one.
	EpochDecreased Code = "monitor/epoch-decreased"
	// UnloggedRelease: a channel statement that lists a release which is not in
	// the log by a publisher's hand.
	UnloggedRelease Code = "monitor/unlogged-release"
	// ChannelRollback: a channel statement whose sequence number does not grow.
	ChannelRollback Code = "monitor/channel-rollback"
	// NotReproduced: the source gives other bits than those released.
	NotReproduced Code = "monitor/not-reproduced"
	// Disagreement: another rebuilder of the policy got another result than
	// this monitor.
	Disagreement Code = "monitor/rebuilders-disagree"
	// StaleLog: no quorum has cosigned the log for longer than the policy
	// allows.
	StaleLog Code = "monitor/stale-log"
)

// An Alert is something that a person should look at.
type Alert struct {
	Time   time.Time `json:"time"`
	Code   Code      `json:"code"`
	Index  *int64    `json:"index,omitempty"` // of the entry, where there is one
	Detail string    `json:"detail"`
	// Evidence names files in the monitor's folder that prove it to others.
	Evidence []string `json:"evidence,omitempty"`
}

const alertsFile = "alerts.jsonl"

// appendAlert adds a line to the folder's alerts and syncs it: an alert that
// somebody was shown is never lost.
func appendAlert(dir string, a Alert) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("writing an alert: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, alertsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("writing an alert: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing an alert to %s: %w", f.Name(), err)
	}
	return nil
}
