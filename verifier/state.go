package verifier

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// State is what a client remembers from one verdict to the next, so that a log
// cannot show it two histories and nobody can take it back in time. Without a
// State (nil in [Options]) every verdict stands alone.
type State interface {
	// View returns what is remembered. The value is the caller's own.
	View() (Memory, error)
	// Update changes what is remembered, as one step for everybody who uses
	// the same State.
	Update(func(*Memory)) error
	// KeepFork keeps two checkpoints that contradict each other, as evidence,
	// and says where they are.
	KeepFork(Fork) (where string, err error)
}

// Bounds of what is remembered. A log whose key is in the policy could fill
// the memory, so each part of it ends somewhere.
const (
	maxCheckpoints = 64  // for each log
	maxWithdrawals = 512 // for each product
	maxForks       = 64
	maxStateBytes  = 64 << 20
)

// Memory is what is remembered.
type Memory struct {
	// Checkpoints that a log signed, by the log's verifier key. Two of the
	// same size are the same.
	Checkpoints map[string][]Remembered `json:"checkpoints"`
	// Channels by product and name, as "product/name".
	Channels map[string]ChannelSeen `json:"channels"`
	// Withdrawals (leaves) by product. Reinstatements are not among them: one
	// counts where its receipt is, by the logs of the policy at hand.
	Withdrawals map[string][][]byte `json:"withdrawals"`
	// Epochs holds the highest accepted security epoch by product.
	Epochs map[string]int64 `json:"epochs"`
	// Newest is the freshness of the newest checkpoint that a quorum
	// cosigned, in Unix seconds. Now is never before it.
	Newest int64 `json:"newest"`
}

// Remembered is a checkpoint that a log signed.
type Remembered struct {
	Size int64  `json:"size"`
	Note []byte `json:"note"` // signed note, exact bytes
	// Witnessed: a quorum cosigned it as well.
	Witnessed bool `json:"witnessed,omitempty"`
}

// ChannelSeen is the newest channel statement that counted.
type ChannelSeen struct {
	Sequence int64  `json:"sequence"`
	Identity string `json:"identity"` // SHA-256 of its payload, hex
}

// Fork is two checkpoints of one log, of the same size and with different
// roots, both signed by the log.
type Fork struct {
	Origin string
	Size   int64
	Notes  [2][]byte
}

func (m *Memory) init() {
	if m.Checkpoints == nil {
		m.Checkpoints = map[string][]Remembered{}
	}
	if m.Channels == nil {
		m.Channels = map[string]ChannelSeen{}
	}
	if m.Withdrawals == nil {
		m.Withdrawals = map[string][][]byte{}
	}
	if m.Epochs == nil {
		m.Epochs = map[string]int64{}
	}
}

// remember adds a checkpoint unless one of its size is there already: the
// first one seen is the one that later ones are held against. It is false if
// that one has another root, and nothing is changed then.
//
// Where there are too many, the smallest go, and before any that a quorum
// cosigned those that the log alone signed: a log could sign any number of
// sizes to have a client forget the one that it means to fork.
func (m *Memory) remember(vkey string, size int64, note []byte, witnessed bool) bool {
	list := m.Checkpoints[vkey]
	if i := slices.IndexFunc(list, func(r Remembered) bool { return r.Size == size }); i >= 0 {
		if !sameRoot(list[i].Note, note) {
			return false
		}
		if witnessed && !list[i].Witnessed {
			list[i] = Remembered{Size: size, Note: note, Witnessed: true}
		}
		return true
	}
	list = append(list, Remembered{Size: size, Note: note, Witnessed: witnessed})
	slices.SortFunc(list, func(a, b Remembered) int {
		switch {
		case a.Witnessed && !b.Witnessed:
			return 1
		case b.Witnessed && !a.Witnessed:
			return -1
		}
		return cmp.Compare(a.Size, b.Size)
	})
	m.Checkpoints[vkey] = list[max(0, len(list)-maxCheckpoints):]
	return true
}

// at returns the note of a size, nil if none is remembered.
func (m *Memory) at(vkey string, size int64) []byte {
	for _, r := range m.Checkpoints[vkey] {
		if r.Size == size {
			return r.Note
		}
	}
	return nil
}

func sameRoot(a, b []byte) bool {
	_, _, x, errX := receipt.ParseNote(a)
	_, _, y, errY := receipt.ParseNote(b)
	return errX == nil && errY == nil && x == y
}

// withdraw adds withdrawals. The same one under another signature is the same:
// of an ECDSA signature anybody can make a second one.
func (m *Memory) withdraw(product string, leaves [][]byte) error {
	list := m.Withdrawals[product]
	known := map[statement.ID]bool{}
	for _, leaf := range list {
		if s, err := statement.Parse(leaf); err == nil {
			known[s.ID] = true
		}
	}
	for _, leaf := range leaves {
		s, err := statement.Parse(leaf)
		if err != nil {
			return fmt.Errorf("a withdrawal to be remembered: %w", err)
		}
		if known[s.ID] {
			continue
		}
		if len(list) >= maxWithdrawals {
			return fmt.Errorf("more than %d withdrawals of %s are remembered; begin a new state folder", maxWithdrawals, product)
		}
		known[s.ID] = true
		list = append(list, leaf)
		m.Withdrawals[product] = list
	}
	return nil
}

// MemoryState is a [State] that lives as long as the process. The zero value
// is ready.
type MemoryState struct {
	mu    sync.Mutex
	data  Memory
	forks []Fork
}

// View implements [State].
func (s *MemoryState) View() (Memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.clone()
}

// Update implements [State].
func (s *MemoryState) Update(f func(*Memory)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data.init()
	f(&s.data)
	return nil
}

// KeepFork implements [State].
func (s *MemoryState) KeepFork(f Fork) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forks) < maxForks {
		s.forks = append(s.forks, f)
	}
	return "memory", nil
}

// Forks returns the forks that were kept.
func (s *MemoryState) Forks() []Fork {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.forks)
}

func (m *Memory) clone() (Memory, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return Memory{}, err
	}
	var out Memory
	if err := json.Unmarshal(b, &out); err != nil {
		return Memory{}, err
	}
	out.init()
	return out, nil
}

// DirState is a [State] in a folder: state.json, and the folder forks with the
// evidence of forks. Several processes may use one folder.
type DirState struct {
	dir string
	mu  sync.Mutex
}

// OpenDir opens a folder for use as a State and makes it if it is not there.
func OpenDir(dir string) (*DirState, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	s := &DirState{dir: dir}
	if _, err := s.View(); err != nil {
		return nil, err
	}
	return s, nil
}

// View implements [State].
func (s *DirState) View() (Memory, error) {
	name := filepath.Join(s.dir, "state.json")
	b, err := durable.ReadFile(name, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		var m Memory
		m.init()
		return m, nil
	}
	if err != nil {
		return Memory{}, fmt.Errorf("what was seen before: %w; if it cannot be mended, move it away to begin anew, and know that what was seen is then forgotten", err)
	}
	var m Memory
	if err := json.Unmarshal(b, &m); err != nil {
		// Never begin anew silently: an attacker who can spoil this file
		// would have made us forget.
		return Memory{}, fmt.Errorf("%s is damaged (%w); move it away to begin anew, and know that what was seen is then forgotten", name, err)
	}
	m.init()
	return m, nil
}

// Update implements [State]. It reads under the folder's lock, so that two
// processes never undo each other, and replaces the file in one step.
func (s *DirState) Update(f func(*Memory)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := durable.WaitLock(s.dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		// There one process at a time may use a state folder.
	case err != nil:
		return fmt.Errorf("remembering what was seen: %w", err)
	default:
		defer unlock()
	}
	m, err := s.View()
	if err != nil {
		return err
	}
	f(&m)
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	if len(b) > maxStateBytes {
		// Written, it could never be read again.
		return fmt.Errorf("remembering what was seen: it would take more than %d bytes; use a folder of its own for each policy", maxStateBytes)
	}
	if err := durable.WriteFile(filepath.Join(s.dir, "state.json"), b, 0o600); err != nil {
		return fmt.Errorf("remembering what was seen: %w", err)
	}
	return nil
}

// KeepFork implements [State]: the two signed notes become two files whose
// names say the log's size, so that anybody can check them with its key. A log
// can fork as often as it likes; a disk ends somewhere.
func (s *DirState) KeepFork(f Fork) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, "forks")
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keeping the evidence of a fork: %w", err)
	}
	kept, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("keeping the evidence of a fork: %w", err)
	}
	var names [2]string
	missing := 0
	for i, note := range f.Notes {
		hash := sha256.Sum256(note)
		name := fmt.Sprintf("%s-%d-%x.note", fileName(f.Origin), f.Size, hash[:16])
		names[i] = filepath.Join(dir, name)
		if !slices.ContainsFunc(kept, func(e fs.DirEntry) bool { return e.Name() == name }) {
			missing++
		}
	}
	if len(kept)+missing > 2*maxForks {
		return "", fmt.Errorf("keeping the evidence of a fork: %s holds %d files already; move them away", dir, len(kept))
	}
	for i, note := range f.Notes {
		if err := durable.WriteFile(names[i], note, 0o600); err != nil {
			return "", fmt.Errorf("keeping the evidence of a fork: %w", err)
		}
	}
	return names[0] + " and " + names[1], nil
}

// fileName makes a file's name of a log's origin, which may hold slashes.
func fileName(origin string) string {
	out := []byte(origin[:min(len(origin), 80)])
	for i, c := range out {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' && i > 0 || c == '-'
		if !ok {
			out[i] = '_'
		}
	}
	return string(out)
}

// newest is the instant before which now cannot be.
func (m *Memory) newest() time.Time { return time.Unix(m.Newest, 0).UTC() }
