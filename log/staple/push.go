package staple

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// push gives the node all there is.
func (s *Stapler) push(ctx context.Context) error {
	body, err := s.assemble()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.c.PushURL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("pushing to the node: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.c.HTTPClient.Do(req)
	if err != nil {
		return fmt.Errorf("pushing to the node: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		s.c.Logger.Info("pushed", "bytes", len(body), "rebuilds", len(s.about.rebuilds), "withdrawals", len(s.about.withdrawals),
			"channel", s.about.current != nil, "checkpoint", s.next)
		return nil
	}
	answer, err := readBounded(resp.Body, evidence.MaxErrorBytes)
	if err != nil {
		return fmt.Errorf("pushing to the node: it answered %s: %w", resp.Status, err)
	}
	refused, err := evidence.ParseError(resp.StatusCode, answer)
	if err != nil {
		return fmt.Errorf("pushing to the node: it answered %s", resp.Status)
	}
	return fmt.Errorf("pushing to the node: %w", refused)
}

// assemble writes the push. If it is too long, rebuilds are left out, oldest
// first: a client that misses one refuses, while one that misses a withdrawal
// would accept.
func (s *Stapler) assemble() ([]byte, error) {
	p := &evidence.Push{Endorsements: s.c.Endorsements}
	if s.checkpoint != nil {
		p.Checkpoint = string(s.checkpoint.Note)
	}
	var err error
	if p.Release, err = s.release.json(); err != nil {
		return nil, err
	}
	if s.about.current != nil {
		if p.Channel, err = s.about.current.json(); err != nil {
			return nil, err
		}
	}
	if p.Withdrawals, err = all(s.about.withdrawals); err != nil {
		return nil, err
	}
	if p.Rebuilds, err = all(s.about.rebuilds); err != nil {
		return nil, err
	}
	for {
		body, err := p.Marshal()
		if err == nil || len(p.Rebuilds) == 0 || size(p) <= evidence.MaxPushBytes-envelope {
			return body, err
		}
		p.Rebuilds = p.Rebuilds[1:]
	}
}

// envelope is more than the member names of a push take.
const envelope = 1 << 10

// size is about how long a push is.
func size(p *evidence.Push) int {
	n := len(p.Release) + len(p.Channel) + len(p.Checkpoint)
	for _, list := range [][]json.RawMessage{p.Rebuilds, p.Withdrawals} {
		for _, m := range list {
			n += len(m) + 1
		}
	}
	for _, e := range p.Endorsements {
		n += len(e.Data)*4/3 + 64
	}
	return n
}

// all gives the statements that have a receipt: without one they prove nothing
// yet, and would make the push malformed.
func all(items []*item) ([]json.RawMessage, error) {
	var list []json.RawMessage
	for _, it := range items {
		m, err := it.json()
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, m)
		}
	}
	return list, nil
}

func (it *item) json() (json.RawMessage, error) {
	if len(it.t.Receipts) == 0 {
		return nil, nil
	}
	return it.t.Marshal()
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return b, err
}
