package statement

import (
	"strconv"
	"time"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Withdrawal says: do not trust these artefacts, releases and registers any
// more. Its subjects are artefacts by their digest and releases by their
// identity. Publishing the same bits again changes nothing; only a withdrawal
// of the same subjects and registers with Reinstates does.
type Withdrawal struct {
	Product    string          `json:"product"`
	Registers  []RegisterValue `json:"registers"`
	Reason     string          `json:"reason"`
	Since      time.Time       `json:"since"`
	Reinstates bool            `json:"reinstates"`
}

// RegisterValue is a value of a register that is withdrawn on a platform.
type RegisterValue struct {
	Platform string `json:"platform"`
	Register string `json:"register"`
	Value    string `json:"value"`
}

func (*Withdrawal) predicateType() string { return WithdrawalType }

func (w *Withdrawal) validate([]Subject) error {
	const at = "/predicate"
	if err := first(
		checkName(at+"/product", w.Product),
		checkText(at+"/reason", w.Reason),
		checkTime(at+"/since", w.Since),
	); err != nil {
		return err
	}
	seen := map[RegisterValue]bool{}
	for i, r := range w.Registers {
		here := at + "/registers/" + strconv.Itoa(i)
		n, ok := RegisterBytes(r.Platform, r.Register)
		if !ok {
			return ijson.Errorf(here, "there is no register %q on platform %q", ijson.Clip(r.Register), ijson.Clip(r.Platform))
		}
		if err := checkHex(here+"/value", r.Value, n); err != nil {
			return err
		}
		if seen[r] {
			return ijson.Errorf(here, "the register's value stands twice")
		}
		seen[r] = true
	}
	return nil
}

func checkTime(path string, t time.Time) error {
	if t.IsZero() {
		return ijson.Errorf(path, "no time is set")
	}
	if t.Nanosecond() != 0 {
		return ijson.Errorf(path, "%v is not in whole seconds", t)
	}
	return nil
}
