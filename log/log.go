package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/internal/serve"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// Config is what a log is. Durations and sizes that are zero take the default
// that their comment names, except where it says that there is none.
type Config struct {
	// Dir is the log's folder, made if needed and held by one process. Apart
	// from names that begin with a dot, and "lock", a file server may serve it
	// as it is.
	Dir string
	// Signer signs checkpoints; its name and key are those of the policy's log.
	Signer note.Signer
	// Policy says who the log is and which witnesses it must have cosign. Each
	// witness needs a URL.
	Policy *receipt.Policy
	// Admission says who may write.
	Admission *Admission

	// RepublishInterval is how long an idle log lets its checkpoint stand before
	// it has the same tree cosigned anew. There is no default: readers demand a
	// freshness (maxAge in their policies), which this must stay well under.
	RepublishInterval time.Duration
	// CheckpointInterval is the least time between two checkpoints: 1s, and at
	// least 100ms.
	CheckpointInterval time.Duration
	// ReceiptTimeout is how long an add waits for the quorum: 10s.
	ReceiptTimeout time.Duration
	// WitnessTimeout is how long a checkpoint waits for the quorum: 5s.
	WitnessTimeout time.Duration
	// AddendaQuota bounds the addenda store, in whole blocks: 64 GiB. Uploads are
	// not signed, since nothing in them is believed, so whoever reaches the log's
	// write port can fill the store; put a proxy in front of a public one.
	AddendaQuota int64

	// Now is the clock by which cosignatures are judged: time.Now.
	Now func() time.Time
	// Logger hears what goes on, Tessera's words included. It may be nil.
	Logger *slog.Logger
}

func (c *Config) complete() error {
	switch {
	case c.Dir == "":
		return errors.New("no folder is given")
	case c.Signer == nil:
		return errors.New("no checkpoint signer is given")
	case c.Policy == nil:
		return errors.New("no policy is given")
	case c.Admission == nil:
		return errors.New("no admission list is given; without one nobody may write")
	case c.RepublishInterval <= 0:
		return errors.New("no republish interval is given; readers demand fresh cosignatures also of an idle log")
	}
	setDefault(&c.CheckpointInterval, time.Second)
	setDefault(&c.ReceiptTimeout, 10*time.Second)
	setDefault(&c.WitnessTimeout, 5*time.Second)
	setDefault(&c.AddendaQuota, 64<<30)
	if c.RepublishInterval < c.CheckpointInterval {
		return fmt.Errorf("the republish interval %v is shorter than the checkpoint interval %v", c.RepublishInterval, c.CheckpointInterval)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if !c.Policy.Unwitnessed() {
		// A witness without a URL cannot be asked: say so before a folder is made.
		if _, err := c.Policy.TesseraWitnessPolicy(); err != nil {
			return err
		}
	}
	return c.checkSigner()
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// checkSigner has the signer sign something like a checkpoint, and the policy
// verify it: a log whose key readers do not know would be found out by them, one
// entry too late.
func (c *Config) checkSigner() error {
	if c.Signer.Name() != c.Policy.Origin() {
		return fmt.Errorf("the checkpoint signer is %q, but the policy's log is %q", c.Signer.Name(), c.Policy.Origin())
	}
	signed, err := note.Sign(&note.Note{Text: c.Policy.Origin() + "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, c.Signer)
	if err != nil {
		return fmt.Errorf("signing a checkpoint: %w", err)
	}
	if _, err := c.Policy.OpenUnwitnessed(signed); err != nil {
		return fmt.Errorf("the checkpoint signer's key is not the one in the policy: %w", err)
	}
	return nil
}

// A Log is an open log.
type Log struct {
	c        Config
	appender *appender
	tiles    localTiles
	board    *board
	index    *index
	addenda  *addenda
	handler  http.Handler

	ctx    context.Context // the log's life
	cancel context.CancelFunc
	loops  sync.WaitGroup
	unlock func() error

	// adding is the additions under way; none begins once closed is set.
	mu     sync.Mutex
	closed bool
	adding sync.WaitGroup
	slots  chan struct{}
}

// maxAdding bounds the additions that wait for Tessera at once. Each holds a
// leaf.
const maxAdding = 1024

// stagingDir is where uploads are written before they take their name.
const stagingDir = ".staging"

// Open opens the log in c.Dir, or makes it. It reads all entries there are, and
// refuses a log whose entries are not those of its checkpoint. ctx bounds the
// opening only.
func Open(ctx context.Context, c Config) (*Log, error) {
	l, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("opening the log in %s: %w", c.Dir, err)
	}
	return l, nil
}

func open(ctx context.Context, c Config) (_ *Log, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := durable.Lock(c.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{c: c, index: newIndex(), unlock: unlock, slots: make(chan struct{}, maxAdding)}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			l.cancel()
			l.loops.Wait()
			unlock()
		}
	}()

	staging := filepath.Join(c.Dir, stagingDir)
	if err := durable.MkdirAll(staging, 0o700); err != nil {
		return nil, err
	}
	if err := durable.Sweep(staging); err != nil {
		return nil, err
	}
	if l.addenda, err = openAddenda(c.Dir, staging, c.AddendaQuota); err != nil {
		return nil, err
	}
	if l.appender, err = openTessera(l.ctx, &l.c); err != nil {
		return nil, err
	}
	l.tiles = newLocalTiles(l.appender.reader)
	l.board = newBoard(c.Policy, l.appender.reader.ReadCheckpoint, l.c.Logger)
	if err := l.board.look(ctx); err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	if err := l.remember(ctx); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, err
	}
	l.handler = newHandler(l, root)
	l.loops.Go(func() { l.board.run(l.ctx) })
	l.loops.Go(func() { <-l.ctx.Done(); root.Close() })
	return l, nil
}

// remember fills the index from the entries: those of the published tree, each
// checked against it, and those that Tessera has sequenced since.
func (l *Log) remember(ctx context.Context) error {
	size, err := l.appender.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("reading the size of the tree: %w", err)
	}
	next := int64(0)
	if c, _ := l.board.latest(); c != nil {
		if uint64(c.Size) > size {
			return fmt.Errorf("the checkpoint has %d entries, but the tree %d: the folder was put back from a backup; a log must not forget", c.Size, size)
		}
		for e, err := range entries(ctx, l.tiles, treeOf(c), 0) {
			if err != nil {
				return fmt.Errorf("the entries are not those of the checkpoint: %w", err)
			}
			if err := l.restore(e); err != nil {
				return err
			}
		}
		next = c.Size
	}
	// No checkpoint covers the rest yet. Tessera wrote it and will sign for it;
	// there is nothing to check it against.
	for e, err := range l.written(ctx, next, int64(size)) {
		if err != nil {
			return err
		}
		if err := l.restore(e); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) restore(e Entry) error {
	s, err := statement.Parse(e.Leaf)
	if err != nil {
		return fmt.Errorf("entry %d is not a statement: %w", e.Index, err)
	}
	if err := l.index.restore(s, e.Index); err != nil {
		l.c.Logger.Error("the log holds what it should not have taken", "what", err)
	}
	return nil
}

// Handler answers the log's reads and writes; docs/formats.md, "Log".
func (l *Log) Handler() http.Handler { return l.handler }

// Serve answers on ln until ctx ends. It returns nil when ctx ended it. Close
// the log afterwards.
func (l *Log) Serve(ctx context.Context, ln net.Listener) error {
	return serve.HTTP(ctx, ln, l.handler, l.c.ReceiptTimeout+uploadTimeout, l.c.Logger)
}

// uploadTimeout is what the largest addendum may take to arrive.
const uploadTimeout = 2 * time.Minute

// Close lets the additions under way finish, waits a little for a checkpoint
// that covers them, and gives the folder back. Requests that wait for a receipt
// end. Entries that no quorum has cosigned by then stay in the log, and are
// published when it opens again.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()

	// Tessera's shutdown knows only of additions whose future was asked; it must
	// not stop before each of ours has been.
	l.adding.Wait()
	if err := l.appender.shutdown(ctx); err != nil {
		l.c.Logger.Warn("the last entries are not published yet", "error", err)
	}
	l.cancel()
	l.loops.Wait()
	return l.unlock()
}
