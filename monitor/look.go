package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Status is what a monitor knows, for people. It is made from the monitor's
// folder, whether a monitor runs there or not.
type Status struct {
	Origin string `json:"origin"`
	// Size is that of the newest tree that was verified, and Audited how many of
	// its entries were.
	Size    int64 `json:"size"`
	Audited int64 `json:"audited"`
	// Forked says that the log has two histories.
	Forked   bool            `json:"forked"`
	Releases []ReleaseStatus `json:"releases"` // in the order of the log
	// Alerts counts those that were ever raised, and Troubles is what goes wrong
	// now, since when.
	Alerts   int64              `json:"alerts"`
	Troubles map[Code]time.Time `json:"troubles"`
}

// ReleaseStatus is how far a release is.
type ReleaseStatus struct {
	Index    int64  `json:"index"`
	Version  string `json:"version"`
	Identity string `json:"identity"`
	// Outcome is empty while the release waits for its rebuild.
	Outcome statement.Outcome `json:"outcome,omitempty"`
	// Published is the entry with this monitor's statement, and Confirmed says
	// that it was seen there.
	Published *int64 `json:"published,omitempty"`
	Confirmed bool   `json:"confirmed"`
	// Retry is when a release that could not be built is tried again; zero if it
	// is not.
	Retry time.Time `json:"retry,omitzero"`
	// Rebuilders are what the rebuilders of the policy said last, by name.
	Rebuilders map[string]statement.Outcome `json:"rebuilders,omitempty"`
}

// Well reports whether the log has one history and no release was found to be
// other than its source.
func (s *Status) Well() bool {
	return !s.Forked && !slices.ContainsFunc(s.Releases, func(r ReleaseStatus) bool { return r.Outcome == statement.NotReproduced })
}

// Look reads what the monitor in a folder knows. It changes nothing.
func Look(dir string) (*Status, error) {
	f := folder(dir)
	s, err := readState(f.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking at the monitor: there is none in %s; name the folder that it runs with", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("looking at the monitor: %w", err)
	}
	status := &Status{
		Origin: s.Origin, Audited: s.Audit.Next, Forked: s.Fork != nil, Releases: []ReleaseStatus{},
		Alerts: s.Alerts.Last, Troubles: map[Code]time.Time{},
	}
	if s.Checkpoint != "" {
		if _, status.Size, _, err = receipt.ParseNote([]byte(s.Checkpoint)); err != nil {
			return nil, fmt.Errorf("looking at the monitor: the checkpoint in %s: %w", f.path(stateFile), err)
		}
	}
	for code, t := range s.Troubles {
		status.Troubles[code] = t.Since
	}
	for id, r := range s.Audit.Releases {
		status.Releases = append(status.Releases, releaseStatus(id, r, s.Rebuilds[id]))
	}
	slices.SortFunc(status.Releases, func(a, b ReleaseStatus) int { return cmp.Compare(a.Index, b.Index) })
	return status, nil
}

func releaseStatus(id string, r *release, mine *rebuild) ReleaseStatus {
	status := ReleaseStatus{Index: r.Index, Version: r.Version, Identity: id}
	if len(r.Words) > 0 {
		status.Rebuilders = map[string]statement.Outcome{}
		for name, w := range r.Words {
			status.Rebuilders[name] = w.Outcome
		}
	}
	if mine == nil {
		return status
	}
	status.Outcome, status.Published, status.Confirmed = mine.Outcome, mine.Published, mine.Confirmed
	if mine.Outcome == statement.CouldNotBuild && mine.Tries < maxTries {
		status.Retry = mine.Retry
	}
	return status
}
