package statement

import (
	"strconv"
	"time"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Channel says: these releases of the product are the current ones. Its
// subjects are the releases by their identity, named by version. It can freeze
// for as long as NotAfter allows, and can never introduce a release: one that
// it lists counts only if a publisher logged it.
type Channel struct {
	Product  string    `json:"product"`
	Channel  string    `json:"channel"`
	Sequence int64     `json:"sequence"` // at least 1, only grows
	IssuedAt time.Time `json:"issuedAt"`
	NotAfter time.Time `json:"notAfter"`
}

func (*Channel) predicateType() string { return ChannelType }

func (c *Channel) validate(subjects []Subject) error {
	releases := map[Digest]bool{}
	for i, s := range subjects {
		here := "/subject/" + strconv.Itoa(i)
		if err := checkVersion(here+"/name", s.Name); err != nil {
			return err
		}
		if releases[s.Digest] {
			return ijson.Errorf(here+"/digest/sha256", "the release stands twice; it has one version")
		}
		releases[s.Digest] = true
	}
	const at = "/predicate"
	if err := first(
		checkName(at+"/product", c.Product),
		checkName(at+"/channel", c.Channel),
		checkPositive(at+"/sequence", c.Sequence),
		checkTime(at+"/issuedAt", c.IssuedAt),
		checkTime(at+"/notAfter", c.NotAfter),
	); err != nil {
		return err
	}
	if !c.NotAfter.After(c.IssuedAt) {
		return ijson.Errorf(at+"/notAfter", "not after issuedAt; the statement would never be current")
	}
	return nil
}
