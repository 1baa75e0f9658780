package evidence

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Push is what the untrusted sidecar gives a node. All of it proves itself to
// whoever reads the node's evidence; the node only keeps the last well-formed
// one. A member that is absent leaves what the node has.
type Push struct {
	Format       string            `json:"format"` // [PushFormat]; set by Marshal
	Release      json.RawMessage   `json:"release,omitempty"`
	Rebuilds     []json.RawMessage `json:"rebuilds,omitempty" ijson:"max=64"`
	Channel      json.RawMessage   `json:"channel,omitempty"`
	Withdrawals  []json.RawMessage `json:"withdrawals,omitempty" ijson:"max=64"`
	Checkpoint   string            `json:"checkpoint,omitempty"` // signed note
	Endorsements []Endorsement     `json:"endorsements,omitempty" ijson:"max=14"`
}

// ParsePush reads a push. The error is an *[Error] of code [CodeBadPush].
func ParsePush(b []byte) (*Push, error) {
	p := new(Push)
	if err := ijson.Unmarshal(b, p, MaxPushBytes); err != nil {
		return nil, NewError(CodeBadPush, err.Error())
	}
	if err := p.validate(); err != nil {
		return nil, NewError(CodeBadPush, err.Error())
	}
	return p, nil
}

// Marshal checks the push and writes it in canonical JSON.
func (p *Push) Marshal() ([]byte, error) {
	out := *p
	out.Format = PushFormat
	if err := out.validate(); err != nil {
		return nil, fmt.Errorf("writing a push: %w", err)
	}
	b, err := ijson.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("writing a push: %w", err)
	}
	if len(b) > MaxPushBytes {
		return nil, fmt.Errorf("writing a push: %d bytes; the limit is %d", len(b), MaxPushBytes)
	}
	return b, nil
}

var errEmptyPush = errors.New("the push has nothing in it; give at least one of release, rebuilds, channel, withdrawals, checkpoint and endorsements")

func (p *Push) validate() error {
	if p.Format != PushFormat {
		return ijson.Errorf("/format", "%q is not %s", clip(p.Format), PushFormat)
	}
	if len(p.Release)+len(p.Rebuilds)+len(p.Channel)+len(p.Withdrawals)+len(p.Checkpoint)+len(p.Endorsements) == 0 {
		return errEmptyPush
	}
	if p.Checkpoint != "" {
		if err := checkNote("/checkpoint", p.Checkpoint); err != nil {
			return err
		}
	}
	if err := validateEndorsements(p.Endorsements); err != nil {
		return err
	}
	return validateStatements(p.Release, p.Channel, p.Rebuilds, p.Withdrawals)
}
