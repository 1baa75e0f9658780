package monitor

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

// Config is what a monitor is. Durations and numbers that are zero take the
// default that their comment names.
type Config struct {
	// Dir holds what the monitor remembers; one process holds it.
	Dir string
	// Log is the one to follow. Its policy is one of Policy's.
	Log *log.Client
	// Policy names the product and the keys. Nothing else of it is applied: a
	// monitor judges a log, not a node.
	Policy *policies.Policy
	// Signer signs the rebuild statements.
	Signer crypto.Signer
	// Rebuilder builds a release again.
	Rebuilder Rebuilder

	// RebuildTimeout bounds one rebuild, since a release's source may be made
	// never to end: 2h. Parallel is how many run at once: 1.
	RebuildTimeout time.Duration
	Parallel       int
	// RetryAfter is how long a release that could not be built waits to be tried
	// again: 24h. Each time it waits twice as long.
	RetryAfter time.Duration

	// Report hears what the monitor does, as it does it, never concurrently. It
	// may be nil, as may Logger.
	Report func(Event)
	Logger *slog.Logger
	// Now is the clock: time.Now.
	Now func() time.Time
}

// An Event is something that the monitor did or saw, for those who watch it.
type Event struct {
	// Event is "following" (a new checkpoint), "release" (an entry that will be
	// rebuilt), "rebuilding", "rebuilt", "published" or "alert". An alert that a
	// crash has kept from being reported may be reported again; its number says
	// so.
	Event   string `json:"event"`
	Index   *int64 `json:"index,omitempty"`
	Size    int64  `json:"size,omitempty"` // of the tree, with "following"
	Version string `json:"version,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Alert   *Alert `json:"alert,omitempty"`
}

// A Monitor follows one log for one product.
type Monitor struct {
	c        Config
	dir      folder
	disk     disk
	unlock   func() error
	key      *statement.PublicKey
	patience time.Duration
	wake     chan struct{} // there may be something to rebuild

	reporting sync.Mutex

	mu    sync.Mutex // of all below
	state *state
	// unsaved says that the state on disk is not this one.
	unsaved bool
	// inFile is the number of the last alert in the alerts file, told of the last
	// that was reported by this process.
	inFile, told int64
	last         *receipt.Checkpoint // of state.Checkpoint; nil before the first
	forked       *log.ForkError
	// shown is what the log answered a writer with; the next step follows it.
	shown *receipt.Checkpoint
}

// Open opens the monitor in c.Dir, or begins one there.
func Open(c Config) (*Monitor, error) {
	m, err := open(c, folder(c.Dir))
	if err != nil {
		return nil, fmt.Errorf("opening the monitor: %w", err)
	}
	return m, nil
}

func (c *Config) complete() error {
	switch {
	case c.Log == nil, c.Policy == nil, c.Signer == nil, c.Rebuilder == nil:
		return errors.New("it needs a log, a policy, a key and something that rebuilds")
	case c.Dir == "":
		return errors.New("no folder is given")
	case c.RebuildTimeout < 0, c.Parallel < 0, c.RetryAfter < 0, c.RetryAfter > maxRetryAfter:
		return fmt.Errorf("a duration or a number is negative, or the time between two tries is over %v", maxRetryAfter)
	}
	if c.RebuildTimeout == 0 {
		c.RebuildTimeout = 2 * time.Hour
	}
	if c.Parallel == 0 {
		c.Parallel = 1
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	return nil
}

func open(c Config, d disk) (_ *Monitor, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	m := &Monitor{c: c, dir: folder(c.Dir), disk: d, wake: make(chan struct{}, 1), patience: c.Policy.Receipt.MaxAge}
	if m.patience == 0 {
		m.patience = defaultPatience
	}
	if m.key, err = statement.NewPublicKey(c.Signer.Public()); err != nil {
		return nil, fmt.Errorf("the monitor's key: %w", err)
	}
	judge, err := judgedBy(c.Policy)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	if m.unlock, err = durable.Lock(c.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.unlock()
		}
	}()
	if err := m.dir.prepare(); err != nil {
		return nil, err
	}
	hint := m.key.Hint()
	if m.state, err = loadState(m.dir, c.Log.Policy().Origin(), hex.EncodeToString(hint[:]), judge); err != nil {
		return nil, err
	}
	if m.inFile, err = m.dir.lastAlert(); err != nil {
		return nil, err
	}
	m.state.Alerts.resume(m.inFile)
	if err := m.openCheckpoints(); err != nil {
		return nil, err
	}
	if m.state.Audit.Policy != judge {
		m.c.Logger.Info("the policy names other keys than before; every entry is audited again, and alerts may repeat")
		m.state.Audit = newAudit(judge)
	}
	return m, nil
}

// openCheckpoints reads the signed notes that the monitor has kept.
func (m *Monitor) openCheckpoints() (err error) {
	p := m.c.Log.Policy()
	if m.state.Checkpoint != "" {
		if m.last, err = p.OpenUnwitnessed([]byte(m.state.Checkpoint)); err != nil {
			return fmt.Errorf("the remembered checkpoint does not verify under this policy: %w; if the log has a new key it is another log, which takes a folder of its own", err)
		}
	}
	if size := m.size(); m.state.Audit.Next > size {
		return fmt.Errorf("the state says that %d entries were audited of a tree of %d; remove %s to follow the log from its first entry again", m.state.Audit.Next, size, m.dir.path(stateFile))
	}
	if m.state.Fork == nil {
		return nil
	}
	var both [2]*receipt.Checkpoint
	for i, name := range m.state.Fork {
		note, err := durable.ReadFile(m.dir.path(name), receipt.MaxNoteBytes)
		if err != nil {
			return fmt.Errorf("reading the evidence of the log's fork: %w", err)
		}
		if both[i], err = p.OpenUnwitnessed(note); err != nil {
			return fmt.Errorf("reading the evidence of the log's fork: %s: %w", name, err)
		}
	}
	m.forked = &log.ForkError{Old: both[0], New: both[1]}
	return nil
}

// Close lets another process have the folder.
func (m *Monitor) Close() error { return m.unlock() }

// Run follows the log each interval, and rebuilds beside that, until ctx ends;
// then it returns nil. What fails is logged and tried again: a monitor does not
// stop watching because the log is down. A fork ends it with the *log.ForkError,
// now and whenever it is run again: there is nothing left to follow.
func (m *Monitor) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return fmt.Errorf("running the monitor: the interval %v is not positive", interval)
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return m.repeat(inner, interval, nil, m.follow) })
	g.Go(func() error { return m.repeat(inner, interval, m.wake, m.rebuildAll) })
	err := g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// repeat takes a step, and another each interval or when it is woken, until ctx
// ends or the log has forked.
func (m *Monitor) repeat(ctx context.Context, interval time.Duration, wake <-chan struct{}, step func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := step(ctx)
		var fork *log.ForkError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &fork):
			return err
		case err != nil:
			m.c.Logger.Warn("a step failed and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-wake:
		}
	}
}

// Step follows the log to its newest checkpoint once, and then rebuilds and says
// what is due. It returns a *log.ForkError if the log has two histories. It is
// not to be called while Run runs.
func (m *Monitor) Step(ctx context.Context) error {
	err := m.follow(ctx)
	var fork *log.ForkError
	if errors.As(err, &fork) || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, m.rebuildAll(ctx))
}

// update changes the state, saves it, and then makes the alerts known that are
// pending in it. If it fails, the change is in memory and not on disk: nothing
// may be done on its strength before settle.
func (m *Monitor) update(change func(*state)) error {
	m.mu.Lock()
	change(m.state)
	m.unsaved = true
	raised := m.state.Alerts.Pending
	err := m.save()
	i := slices.IndexFunc(raised, func(a Alert) bool { return a.Number > m.told })
	m.told = max(m.told, m.state.Alerts.Last)
	m.mu.Unlock()
	if i < 0 {
		return err
	}
	// A disk that is full is no reason not to say what was found.
	for _, a := range raised[i:] {
		m.report(Event{Event: "alert", Alert: &a, Index: a.Index, Detail: a.Detail})
	}
	return err
}

// settle has everything that the monitor knows on disk, and every alert told.
func (m *Monitor) settle() error {
	m.mu.Lock()
	settled := !m.unsaved && len(m.state.Alerts.Pending) == 0 && !m.state.Alerts.over(m.c.Now())
	m.mu.Unlock()
	if settled {
		return nil
	}
	return m.update(func(s *state) { s.Alerts.turn(m.c.Now()) })
}

// unknown is no number of an alert.
const unknown = -1

// save writes the state, and then the alerts that are pending in it into their
// file. If that is the last thing that happens, the numbers tell which of them
// are in it.
func (m *Monitor) save() error {
	if err := m.saveState(); err != nil {
		return err
	}
	alerts := &m.state.Alerts
	if len(alerts.Pending) == 0 {
		return nil
	}
	if m.inFile == unknown {
		inFile, err := m.dir.lastAlert()
		if err != nil {
			return err
		}
		m.inFile = inFile
	}
	if unwritten := alerts.unwritten(m.inFile); len(unwritten) > 0 {
		lines, err := encodeAlerts(unwritten)
		if err != nil {
			return err
		}
		if err := m.disk.append(alertsFile, lines); err != nil {
			m.inFile = unknown // the lines may be in it or not
			return fmt.Errorf("writing an alert: %w", err)
		}
		m.inFile = alerts.Last
	}
	alerts.Pending = nil
	m.unsaved = true
	return m.saveState()
}

func (m *Monitor) saveState() error {
	b, err := m.state.encode()
	if err != nil {
		return err
	}
	if err := m.disk.write(stateFile, b); err != nil {
		return fmt.Errorf("writing the monitor's state: %w", err)
	}
	m.unsaved = false
	return nil
}

func (m *Monitor) report(e Event) {
	e.Detail = plain(e.Detail)
	m.reporting.Lock()
	defer m.reporting.Unlock()
	m.c.Report(e)
}

// size is that of the newest tree that was verified.
func (m *Monitor) size() int64 {
	if m.last == nil {
		return 0
	}
	return m.last.Size
}
