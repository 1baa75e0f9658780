package monitor

import (
	"fmt"
	"slices"
	"time"
)

const (
	// maxAlerts is how many alerts of a limited code are written in a window.
	// Whoever may write to a log must not be able to fill a monitor's disk, or
	// drown the alert that matters.
	maxAlerts   = 32
	alertWindow = 24 * time.Hour
)

// A ledger numbers alerts, counts them, and holds those that are not in the
// alerts file yet. It is part of the state, so that an alert and what it is
// about are remembered in one step; the number tells after a crash which of them
// had got into the file.
type ledger struct {
	Last    int64            `json:"last"` // number given last
	Pending []Alert          `json:"pending,omitempty"`
	Windows map[Code]*window `json:"windows"`
}

// A window counts the alerts of one code for a day.
type window struct {
	Since   time.Time `json:"since"`
	Written int       `json:"written"`
	Dropped int64     `json:"dropped"`
	First   *int64    `json:"first,omitempty"` // entry of the first that was dropped
	Final   *int64    `json:"final,omitempty"` // and of the last
}

// raise takes an alert up, unless there were too many of its kind.
func (l *ledger) raise(a Alert, now time.Time) {
	a.Time = now.UTC().Truncate(time.Second)
	a.Detail = plain(a.Detail)
	if info, ok := a.Code.Info(); ok && info.limited && !l.admit(a, now) {
		return
	}
	l.Last++
	a.Number = l.Last
	l.Pending = append(l.Pending, a)
}

// admit counts an alert and reports whether it is to be written.
func (l *ledger) admit(a Alert, now time.Time) bool {
	w := l.Windows[a.Code]
	if w == nil {
		w = &window{Since: now.UTC().Truncate(time.Second)}
		l.Windows[a.Code] = w
	}
	if w.Written < maxAlerts {
		w.Written++
		return true
	}
	w.Dropped++
	w.Final = a.Index
	if w.Dropped == 1 {
		w.First = a.Index
		l.raise(Alert{Code: LimitReached, Index: a.Index, Detail: fmt.Sprintf(
			"there were %d alerts %s since %s; until %s more of them are counted, not written",
			maxAlerts, a.Code, w.Since.Format(time.RFC3339), w.Since.Add(alertWindow).Format(time.RFC3339))}, now)
	}
	return false
}

// turn ends the windows that are over, and says what was only counted.
func (l *ledger) turn(now time.Time) {
	for _, info := range codes {
		w := l.Windows[info.Code]
		if w == nil || now.Sub(w.Since) < alertWindow {
			continue
		}
		delete(l.Windows, info.Code)
		if w.Dropped > 0 {
			where := ""
			if w.First != nil && w.Final != nil {
				where = fmt.Sprintf(", in the entries from %d to %d", *w.First, *w.Final)
			}
			l.raise(Alert{Code: LimitReached, Index: w.First, Detail: fmt.Sprintf(
				"%d more alerts %s since %s were counted and not written%s", w.Dropped, info.Code, w.Since.Format(time.RFC3339), where)}, now)
		}
	}
}

// over reports whether a window is.
func (l *ledger) over(now time.Time) bool {
	for _, w := range l.Windows {
		if now.Sub(w.Since) >= alertWindow {
			return true
		}
	}
	return false
}

// resume goes on after the alert that the file ends with. Where the file is
// ahead, since the state was removed or put back from a backup, what is pending
// gets new numbers.
func (l *ledger) resume(inFile int64) {
	if inFile <= l.Last {
		return
	}
	l.Last = inFile
	for i := range l.Pending {
		l.Last++
		l.Pending[i].Number = l.Last
	}
}

// unwritten is what is pending and has a number after the file's last.
func (l *ledger) unwritten(inFile int64) []Alert {
	i := slices.IndexFunc(l.Pending, func(a Alert) bool { return a.Number > inFile })
	if i < 0 {
		return nil
	}
	return l.Pending[i:]
}
