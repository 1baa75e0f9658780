package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// defaultPatience is how long something may go wrong before it is an alert,
// where the policy does not say how old a receipt may be.
const defaultPatience = 24 * time.Hour

// trouble is what goes wrong for the time being. It becomes an alert when it
// lasts, and once only: a network that blinks is nobody's business, and a
// monitor that cannot do its work must not be taken for one that found nothing.
type trouble struct {
	Since   time.Time `json:"since"`
	Alerted bool      `json:"alerted,omitempty"`
}

// stand notes that a trouble goes on, or with a nil problem that it is over.
// since is when it began, if this is the first that is seen of it. It returns
// the problem, for the caller to return.
func (m *Monitor) stand(ctx context.Context, code Code, since time.Time, problem error) error {
	if problem != nil && ctx.Err() != nil {
		// It was stopped, not troubled.
		return problem
	}
	m.mu.Lock()
	known := m.state.Troubles[code]
	m.mu.Unlock()
	if problem == nil && known == nil {
		return nil
	}
	return errors.Join(problem, m.update(func(s *state) {
		if problem == nil {
			delete(s.Troubles, code)
			return
		}
		t := s.Troubles[code]
		if t == nil {
			t = &trouble{Since: since.UTC().Truncate(time.Second)}
			s.Troubles[code] = t
		}
		lasts := m.c.Now().Sub(t.Since)
		if lasts <= m.patience || t.Alerted {
			return
		}
		t.Alerted = true
		s.Alerts.raise(Alert{Code: code, Detail: fmt.Sprintf("for %v: %v", lasts.Round(time.Second), problem)}, m.c.Now())
	}))
}
