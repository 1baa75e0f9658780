package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"k8s.io/klog/v2"
)

// batchAge is how long Tessera collects entries before it writes them, and thus
// what the first of them waits. Tessera does not join batches that wait for the
// disk, so with a shorter one many small batches, each with its own syncs, take
// longer than few.
const batchAge = 100 * time.Millisecond

// maxWitnessAnswer bounds what is read of a witness: Tessera reads it whole.
const maxWitnessAnswer = 64 << 10

// appender is a log in a POSIX folder, as Tessera writes it.
type appender struct {
	add      tessera.AddFn
	reader   tessera.LogReader
	shutdown func(context.Context) error
}

// openTessera opens the log in c.Dir, making it if there is none. ctx is the
// log's life: to be cancelled after shutdown only.
func openTessera(ctx context.Context, c *Config) (*appender, error) {
	quiet(c.Logger)
	var witnesses tessera.WitnessGroup
	if !c.Policy.Unwitnessed() {
		policy, err := c.Policy.TesseraWitnessPolicy()
		if err != nil {
			return nil, fmt.Errorf("writing the witness policy for Tessera: %w", err)
		}
		if witnesses, err = tessera.NewWitnessGroupFromPolicy(policy); err != nil {
			return nil, fmt.Errorf("giving the witness policy to Tessera: %w", err)
		}
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(c.Signer).
		WithWitnesses(witnesses, &tessera.WitnessOptions{Timeout: c.WitnessTimeout}).
		WithBatching(tessera.DefaultBatchMaxSize, batchAge).
		WithCheckpointInterval(c.CheckpointInterval).
		WithCheckpointRepublishInterval(c.RepublishInterval).
		WithShutdownTimeout(c.WitnessTimeout + 2*c.CheckpointInterval)

	open := func() (*appender, error) {
		driver, err := posix.New(ctx, posix.Config{Path: c.Dir, HTTPClient: witnessClient(c.WitnessTimeout)})
		if err != nil {
			return nil, err
		}
		a, shutdown, reader, err := tessera.NewAppender(ctx, driver, opts)
		if err != nil {
			return nil, err
		}
		return &appender{add: a.Add, reader: reader, shutdown: shutdown}, nil
	}
	_, before := os.Stat(filepath.Join(c.Dir, ".state", "treeState"))
	a, err := open()
	if err != nil && errors.Is(before, fs.ErrNotExist) {
		// A new log must have its empty tree cosigned before it opens, or fails,
		// but only the first time: then it publishes when the witnesses are there.
		// A log that can take entries should not depend on when it was made.
		c.Logger.Warn("the new log's first checkpoint was not cosigned yet", "error", err)
		a, err = open()
	}
	return a, err
}

// witnessClient is the client that Tessera asks witnesses with. It has bounds
// that Tessera does not set.
func witnessClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: &boundedTransport{base: http.DefaultTransport.(*http.Transport).Clone(), limit: maxWitnessAnswer},
		Timeout:   timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("a witness may not redirect")
		},
	}
}

// boundedTransport fails the reading of a body past limit bytes.
type boundedTransport struct {
	base  http.RoundTripper
	limit int64
}

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, t.limit)
	}
	return resp, err
}

// CloseIdleConnections is found by [http.Client.CloseIdleConnections].
func (t *boundedTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Tessera speaks through klog, which is one for the process and prints to
// standard error unless told otherwise. It is told once; the log that was opened
// last hears it.
var (
	klogHandler atomic.Pointer[slog.Handler]
	klogOnce    sync.Once
)

func quiet(logger *slog.Logger) {
	h := logger.With("from", "tessera").Handler()
	klogHandler.Store(&h)
	klogOnce.Do(func() { klog.SetSlogLogger(slog.New(lastOpened{})) })
}

// lastOpened hands records to the handler of the log that was opened last.
// Tessera's handlers carry no attributes or groups.
type lastOpened struct{}

func (lastOpened) Enabled(ctx context.Context, level slog.Level) bool {
	return (*klogHandler.Load()).Enabled(ctx, level)
}
func (lastOpened) Handle(ctx context.Context, r slog.Record) error {
	return (*klogHandler.Load()).Handle(ctx, r)
}
func (h lastOpened) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h lastOpened) WithGroup(string) slog.Handler      { return h }
