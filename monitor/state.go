package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

const (
	stateFile    = "state.json"
	stateVersion = 1
	// maxStateBytes bounds the file: some 300 bytes for each release.
	maxStateBytes = 256 << 20
)

// state is what a monitor remembers. It is replaced as a whole, so that it is
// always the state after some entry, never half of one.
type state struct {
	Version int `json:"version"`
	// Origin is the log that the state is about.
	Origin string `json:"origin"`
	// Next is the index of the first entry that was not audited yet.
	Next int64 `json:"next"`
	// Checkpoint is the newest signed note that was verified; "" before the
	// first.
	Checkpoint string `json:"checkpoint"`
	// Releases are the watched product's, by identity.
	Releases map[string]*release `json:"releases"`
	// Versions maps a version of the product to the identity first seen.
	Versions map[string]string `json:"versions"`
	// Epoch is the highest security epoch released so far.
	Epoch int64 `json:"epoch"`
	// Channels maps a channel to its highest sequence number.
	Channels map[string]int64 `json:"channels"`
	// Withdrawn holds the digests that are withdrawn.
	Withdrawn map[string]bool `json:"withdrawn"`
}

// release is one release of the watched product, and how far its rebuild is.
type release struct {
	Index   int64  `json:"index"`
	Version string `json:"version"`
	// Outcome is this monitor's own; "" while the release waits for its rebuild.
	Outcome statement.Outcome `json:"outcome,omitempty"`
	// Leaf is the signed rebuild statement, kept from before it was first sent,
	// so that a monitor that was killed sends the same bytes again.
	Leaf []byte `json:"leaf,omitempty"`
	// Published is the index of that statement in the log.
	Published *int64 `json:"published,omitempty"`
}

func loadState(dir, origin string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	fresh := &state{
		Version: stateVersion, Origin: origin,
		Releases: map[string]*release{}, Versions: map[string]string{},
		Channels: map[string]int64{}, Withdrawn: map[string]bool{},
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fresh, nil
	case err != nil:
		return nil, fmt.Errorf("reading the monitor's state: %w", err)
	case info.Size() > maxStateBytes:
		return nil, fmt.Errorf("reading the monitor's state: %s has %d bytes, more than %d", path, info.Size(), maxStateBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the monitor's state: %w", err)
	}
	s := fresh
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("reading the monitor's state: %s: %w; remove the file to follow the log from its first entry again", path, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("reading the monitor's state: %s has version %d, and this program knows %d", path, s.Version, stateVersion)
	}
	if s.Origin != origin {
		return nil, fmt.Errorf("reading the monitor's state: %s is about the log %q, not %q; give each log a folder of its own", path, s.Origin, origin)
	}
	return s, nil
}

func (s *state) save(dir string) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("writing the monitor's state: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, stateFile), b, 0o644)
}
