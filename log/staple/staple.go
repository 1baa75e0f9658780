package staple

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

const (
	defaultInterval = time.Minute
	// retryDelay is how soon a round that failed is tried again: the node may
	// still be booting, or the log restarting.
	retryDelay = time.Second
	// roundTimeout bounds one round, the walk over a long log included.
	roundTimeout = 10 * time.Minute
)

// Config is what a sidecar does.
type Config struct {
	// Log is the log to follow. Its policy says which receipts count.
	Log *log.Client
	// Statements are the files of transparent statements. One of them is the
	// release that the node runs; others, which are not needed if the log has
	// them, may be about it. A file is rewritten when there is a newer receipt.
	Statements []string
	// PushURL is where the node takes pushes, without a path.
	PushURL string
	// Channel is the name of the channel whose newest statement is pushed. If it
	// is empty, every channel counts that ever listed the release.
	Channel string
	// Endorsements are pushed as they are.
	Endorsements []evidence.Endorsement
	// Interval is the time from one round to the next: one minute.
	Interval time.Duration
	// HTTPClient pushes. It may be nil.
	HTTPClient *http.Client
	// Now is the clock by which receipts are judged: time.Now.
	Now func() time.Time
	// Logger may be nil.
	Logger *slog.Logger
}

// A Stapler is a sidecar between two rounds.
type Stapler struct {
	c       Config
	about   *about
	release *item
	// The log as it was read last: entries below next are known.
	checkpoint *receipt.Checkpoint
	next       int64
}

// An item is a statement and the receipts had for it so far.
type item struct {
	signed *statement.Signed
	t      *receipt.Transparent
	index  int64  // in the log; -1 if it was not seen there
	path   string // of its file; empty if it came from the log
	note   string // of the checkpoint that the newest receipt is under
}

// New reads the files that c names.
func New(c Config) (*Stapler, error) {
	if c.Log == nil || c.PushURL == "" {
		return nil, errors.New("preparing to staple: a log and the node's push address are needed")
	}
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{Timeout: 30 * time.Second}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.PushURL = strings.TrimSuffix(c.PushURL, "/") + evidence.PushPath
	s := &Stapler{c: c}
	var others []*item
	for _, path := range c.Statements {
		it, err := readItem(path)
		if err != nil {
			return nil, fmt.Errorf("reading the transparent statement %s: %w", path, err)
		}
		if _, ok := it.signed.Statement.Release(); !ok {
			others = append(others, it)
		} else if s.release == nil {
			s.release = it
		} else {
			return nil, fmt.Errorf("%s and %s are both releases; a node runs one", s.release.path, path)
		}
	}
	if s.release == nil {
		return nil, errors.New("none of the transparent statements is a release; give that of the release which the node runs")
	}
	s.about = newAbout(s.release, c.Channel)
	for _, it := range others {
		if !s.about.take(it) {
			return nil, fmt.Errorf("%s is not about the release in %s", it.path, s.release.path)
		}
	}
	return s, nil
}

func readItem(path string) (*item, error) {
	text, err := durable.ReadFile(path, receipt.MaxTransparentBytes)
	if err != nil {
		return nil, err
	}
	t, err := receipt.ParseTransparent(text)
	if err != nil {
		return nil, err
	}
	signed, err := statement.Parse(t.Leaf)
	if err != nil {
		return nil, err
	}
	return &item{signed: signed, t: t, index: -1, path: path}, nil
}

// Run goes around until ctx ends, which is no error, or until the log is proven
// to have forked, which is: a *log.ForkError. Rounds that fail are logged and
// tried again.
func Run(ctx context.Context, c Config) error {
	s, err := New(c)
	if err != nil {
		return err
	}
	for {
		delay := s.c.Interval
		if err := s.Push(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if fork := new(log.ForkError); errors.As(err, &fork) {
				return err
			}
			s.c.Logger.Error("stapling", "error", err)
			delay = min(delay, retryDelay)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// Push goes around once: it reads what is new in the log, refreshes the
// receipts, pushes all to the node, and rewrites the files. It pushes what it
// has also when the log cannot be read, since a node that has restarted has
// nothing, and then gives the error.
func (s *Stapler) Push(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	followed := s.follow(ctx)
	if fork := new(log.ForkError); errors.As(followed, &fork) {
		return followed
	}
	pushed := s.push(ctx)
	return errors.Join(followed, pushed, s.save())
}

// follow takes up what is new in the log.
func (s *Stapler) follow(ctx context.Context) error {
	c, err := s.c.Log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if s.checkpoint != nil {
		if err := s.c.Log.Consistency(ctx, s.checkpoint, c); err != nil {
			return err
		}
		if c.Size < s.checkpoint.Size || c.Freshness.Before(s.checkpoint.Freshness) {
			// A replica that lags, or a log that hides what it showed.
			return fmt.Errorf("the log shows an older checkpoint, of %d entries as of %v, than before, of %d as of %v",
				c.Size, c.Freshness, s.checkpoint.Size, s.checkpoint.Freshness)
		}
	}
	for e, err := range s.c.Log.Entries(ctx, c, s.next) {
		if err != nil {
			return err
		}
		s.read(e)
		s.next = e.Index + 1
	}
	// Only now: from a checkpoint whose entries could not be read nothing was
	// learned, and the entries that were are in every later one.
	s.checkpoint = c
	var failed error
	for _, it := range s.items() {
		if err := s.refresh(ctx, it); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// read takes an entry up if it is about the release.
func (s *Stapler) read(e log.Entry) {
	signed, err := statement.Parse(e.Leaf)
	if err != nil {
		s.c.Logger.Warn("an entry is not a statement that this version reads", "index", e.Index, "error", err)
		return
	}
	it := &item{signed: signed, t: &receipt.Transparent{Leaf: e.Leaf}, index: e.Index}
	if signed.ID == s.release.signed.ID {
		s.release.at(it)
		return
	}
	s.about.take(it)
}

// at notes where the log has the statement. What counts is the bundle that the
// log has: one from a file that differs can have no receipt.
func (it *item) at(inLog *item) {
	if it.index >= 0 {
		return // a duplicate; the first counts
	}
	it.index = inLog.index
	if string(it.t.Leaf) != string(inLog.t.Leaf) {
		it.signed, it.t = inLog.signed, inLog.t
	}
}

// refresh gets the receipt under the newest checkpoint.
func (s *Stapler) refresh(ctx context.Context, it *item) error {
	if it.note == string(s.checkpoint.Note) {
		return nil
	}
	if it.index < 0 {
		return fmt.Errorf("the statement in %s is not in the log %s", it.path, s.checkpoint.Origin)
	}
	proof, r, err := s.c.Log.ReceiptAt(ctx, s.checkpoint, it.index, it.t.Leaf)
	if err != nil {
		return err
	}
	if len(it.t.Receipts) > 0 {
		best, err := s.c.Log.Policy().VerifyTransparent(it.t, s.c.Now())
		if err == nil && !r.Freshness.After(best.Newest.Freshness) {
			it.note = string(s.checkpoint.Note)
			return nil
		}
	}
	if err := it.t.Add(string(proof)); err != nil {
		return err
	}
	it.note = string(s.checkpoint.Note)
	return nil
}

func (s *Stapler) items() []*item {
	return append([]*item{s.release}, s.about.all()...)
}

// save rewrites the files whose statements have another receipt.
func (s *Stapler) save() error {
	var failed error
	for _, it := range s.items() {
		if it.path == "" || len(it.t.Receipts) == 0 {
			continue
		}
		text, err := it.t.Marshal()
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if old, err := os.ReadFile(it.path); err == nil && string(old) == string(text) {
			continue
		}
		failed = errors.Join(failed, durable.WriteFile(it.path, text, 0o644))
	}
	return failed
}
